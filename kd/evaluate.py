"""The test set's verdict on one run."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd import masks, metrics
from kd.datasets import open_dataset
from kd.datasets.base import Dataset, Split
from kd.datasets.tensors import read_images, to_tensor
from kd.errors import UsageError
from kd.models import skeleton, weights
from kd.models.base import Classifier
from kd.observation import Observation
from kd.progress import ProgressCallback
from kd.runs import Run, Store
from kd.store.files import write_bytes, write_json

BATCH = 64


def predict(model: torch.nn.Module, split: Split, device: torch.device | str = "cpu",
            watch: Callable[[Observation], None] = lambda seen: None) -> NDArray[np.float32]:
    """Logits [N, K] of a split's plain images. The caller has set the model to eval. watch: is shown all observations.
    """
    everyone = np.arange(len(split))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(split), BATCH):
            seen = model(to_tensor(read_images(split.images, everyone[start:start + BATCH]), device))
            watch(seen)
            parts.append(seen.logits.float())
    return torch.cat(parts).cpu().numpy()


def predict_masked(model: torch.nn.Module, split: Split,
                   device: torch.device | str = "cpu") -> tuple[NDArray[np.float32], masks.Report | None]:
    """As `predict`, and what the masks on these images come to; None for a model that lays none."""
    tally = masks.Tally()

    def watch(seen: Observation) -> None:
        if seen.mask is not None:
            tally.add(seen.mask.float().cpu().numpy())

    return predict(model, split, device, watch), tally.report()


def load(run: Run, classes: int) -> Classifier:
    """The run's model with its best weights, in eval mode. Raises UsageError when there are none yet."""
    if not run.weights.exists():
        raise UsageError(f"{run.id} has no weights yet (it is {run.status}). Wait for its first epoch, or resume it.")
    model = skeleton(run.spec, classes)
    weights.load(model, run.weights)
    return model.eval()


def data_of(run: Run, store: Store, progress: ProgressCallback | None = None) -> Dataset:
    """The data set that the run learnt from. Raises UsageError when its content is another by now."""
    spec = run.spec
    data = open_dataset(spec.data, spec.image_size, store.places, progress)
    if spec.data_fingerprint and spec.data_fingerprint != data.fingerprint:
        raise UsageError(f"The data set {spec.data} has changed since {run.id} learnt from it. Put the old content "
                         "back, or train a new run.")
    return data


def evaluate(run: Run, store: Store) -> dict[str, Any]:
    """Score the run's best weights on its test split; writes `evaluation.json` and `predictions.npz`."""
    data = data_of(run, store)
    return record(run, predict(load(run, len(data.classes)), data.test), data.test)


def record(run: Run, logits: NDArray[np.float32], test: Split) -> dict[str, Any]:
    """Write test logits, with the images' names and people, and their scores beside the run; return the scores."""
    scores = {"images": len(test), **metrics.summarise(logits, test.labels)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, logits=logits, labels=test.labels, names=np.array(test.names),
                        groups=np.array(test.groups or ()))
    write_bytes(run.path / "predictions.npz", buffer.getvalue())
    write_json(run.path / "evaluation.json", scores)
    return scores
