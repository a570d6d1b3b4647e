"""Features of a student's frozen stages, cached like teacher outputs, so that only the later stages are computed."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets.base import Dataset, Split
from kd.datasets.tensors import read_images, to_tensor
from kd.methods import Method, build
from kd.models import stage_shapes
from kd.models.base import Classifier
from kd.models.frozen import LaterStages
from kd.spec import RunSpec
from kd.store.row_files import Index, RowFormat
from kd.store.runs import Run, Store
from kd.training.batches import Batch, Shown, TrainBatches
from kd.training.image_counts import ImageCounts
from kd.training.precision import resolve_precision
from kd.training.teacher.cache import frozen_features_owner
from kd.training.teacher.cached_network import BatchOutputs, CachedNetwork, without_outputs
from kd.training.teacher.pending import PendingBatch
from kd.training.teacher.rows import CacheEstimate, estimate_rows, find_rows, row_format, row_key

NAME = "features"


class FrozenFeatures(CachedNetwork):
    """Features of a model's frozen stages for every batch of a run's training; the batches have them in place of
    teacher outputs. later: the stages behind them."""

    event = "frozen_features"

    def __init__(self, later: LaterStages, key: Mapping[str, Any], row: RowFormat, store: Store, fabric: Fabric,
                 log: Callable[..., None]) -> None:
        super().__init__(frozen_features_owner(store), key, {NAME: row}, fabric, log,
                         {NAME: f"stage:{later.stage}"})
        self.later = later

    def network(self, number: int) -> Classifier:
        return self.later.model

    def complete(self, pending: PendingBatch) -> BatchOutputs:
        pending.batch.features = pending.outputs()[NAME]
        return pending.batch, pending.others


class SplitFeatures(FrozenFeatures):
    """The same for a split without augmentation, in float32 as it is predicted; called with indices into it."""

    mixed = False

    def of(self, split: Split) -> Callable[[Index], Tensor]:
        """What gives the features [B, C, H, W] of these images of the split."""
        def features(index: NDArray[np.int64]) -> Tensor:
            batch = Batch(lambda: to_tensor(read_images(split.images, index), self.fabric.device),
                          torch.from_numpy(split.labels[index]), index, np.zeros(len(index), np.int64))
            return self.outputs_of(batch)[NAME]

        return features


def prepare_features(run: Run, store: Store, model: Classifier, method: Method, data: Dataset, shown: Shown,
                     fabric: Fabric, log: Callable[..., None]
                     ) -> tuple[FrozenFeatures | None, Callable[[Index], Tensor] | None]:
    """(features of the training images, function that gives those of validation images) of a run with frozen stages,
    with their caches enabled; (None, None) where nothing is frozen, or where a batch needs the whole model.

    shown: what the run trains on. The model is moved to its device.
    """
    spec = run.spec
    if not spec.frozen_stages:
        return None, None
    later = LaterStages.of(model, spec.frozen_stages - 1, spec.image_size)
    if reason := _obstacle(spec, method, later):
        log(FrozenFeatures.event, hits=0, misses=0, bytes=0, computed=0, disabled=reason)
        return None, None
    assert later is not None, "an obstacle otherwise"
    model.to(fabric.device)
    row = _row_format(spec, len(data.classes))
    key = {**row_key(spec, data, fabric.device, str(fabric.strategy.precision.precision)), **network_key(spec),
           "weights": _digest(model)}
    train = FrozenFeatures(later, {**key, "split": "train"}, row, store, fabric, log)
    train.enable_cache(store, run, shown)
    unchanged = {"split": "val", "images": len(data.val), "views": 0, "augmentation": 0.0, "flip": False,
                 "precision": "32-true"}
    val = SplitFeatures(later, {**_unmixed(key), **unchanged}, row, store, fabric, lambda *_, **__: None)
    val.cache.enable(store, run, val.key, [np.arange(len(data.val))])
    return train, val.of(data.val)


def _unmixed(key: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in key.items() if name not in ("mixup", "among")}


def caches_features(spec: RunSpec) -> bool:
    """Whether a run trains on cached features of its frozen stages, as far as its settings tell."""
    return bool(spec.frozen_stages) and not _needs_whole(spec, build(spec.method, spec.method_args))


def estimate_features(spec: RunSpec, classes: int, images: ImageCounts, store: Store) -> CacheEstimate:
    """Estimated cost of the features of a run's frozen stages, before it is started; zeros where it caches none."""
    if not caches_features(spec):
        return CacheEstimate(0, 0)
    existing = find_rows(frozen_features_owner(store), spec, resolve_precision(spec), split="train",
                         **network_key(spec))
    return estimate_rows(spec, {NAME: _row_format(spec, classes)}, existing, images, store)


def _row_format(spec: RunSpec, classes: int) -> RowFormat:
    return row_format(f"stage:{spec.frozen_stages - 1}", stage_shapes(spec, classes), classes)


def network_key(spec: RunSpec) -> dict[str, Any]:
    """Part of the key that says which stages of which network: what is known before its weights are read."""
    return {"model": spec.base or spec.model, "stages": spec.frozen_stages, "input_size": spec.model_size,
            "normalisation": spec.normalisation, "pretrained": spec.pretrained_fingerprint or spec.pretrained}


def epoch_batches(features: FrozenFeatures | None, teacher: CachedNetwork | None, batches: TrainBatches, epoch: int,
                  device: torch.device) -> Iterator[BatchOutputs]:
    """An epoch's batches in their order, each with the features of frozen stages, where there are any, and with its
    teacher outputs, empty without a teacher."""
    source = features.batches(batches, epoch) if features else without_outputs(batches, epoch, device)
    return teacher.batches(batches, epoch, source) if teacher else source


def _obstacle(spec: RunSpec, method: Method, later: LaterStages | None) -> str:
    """Why the frozen stages are computed for every batch, in words; empty where their features can be cached."""
    return _needs_whole(spec, method) or ("" if later else "the model uses earlier stages again behind its frozen ones")


def _needs_whole(spec: RunSpec, method: Method) -> str:
    if spec.mask_net_depth:
        return "a mask network in front of the model changes its images in every step"
    if spec.random_masks:
        return "random masks change the images in every step"
    if method.needs_stages:
        return f"the method {spec.method} compares the features of stages"
    return ""


def _digest(model: Classifier) -> str:
    """Digest of all numbers that features of frozen stages depend on."""
    found = hashlib.sha256()
    for name, value in sorted(chain(model.named_parameters(), model.named_buffers())):
        inside = any(name.startswith(f"{module}.") for module in model.frozen)
        if inside or name in ("mean", "std") or (isinstance(value, torch.nn.Parameter) and not value.requires_grad):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
