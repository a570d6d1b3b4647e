"""Predictions of the model of a run in training on whole splits."""

from collections.abc import Callable

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from kd.datasets.base import Split
from kd.evaluation import predict
from kd.inference.fast_model import FastModel, fast_model
from kd.inference.record import EVENT, TORCH, recorded
from kd.metrics import mask_statistics
from kd.models.base import Classifier
from kd.paths import Paths
from kd.store.runs import Run

PART = "predictions"  # name under which the engine is logged


def predictions(run: Run, model: nn.Module, split: Split, fabric: Fabric, paths: Paths, log: Callable[..., None],
                inputs: predict.Inputs | None = None
                ) -> tuple[NDArray[np.float32], mask_statistics.MaskStatistics | None]:
    """Logits and mask statistics as by `predict.predict_masked`, by the fastest engine that is exact to 1e-4; one that
    is not torch is logged. model: in eval mode."""
    if isinstance(model, Classifier) and inputs is None:
        model = fast_model(model, split.images.shape[1], len(split), paths)
    found = predict.predict_masked(model, split, fabric.device, fabric.global_rank, fabric.world_size, inputs)
    if isinstance(model, FastModel):
        for record in (engine.record for engine in model.engines.values() if engine.record.engine != TORCH):
            if recorded(run, PART) != record:
                log(EVENT, part=PART, **record.to_json())
    return found
