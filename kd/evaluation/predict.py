"""Predictions of models on whole splits, and the test scores of runs."""

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets import open_dataset
from kd.datasets.base import Dataset, Split
from kd.datasets.tensors import read_images, to_tensor
from kd.errors import UsageError
from kd.inference.fast_model import fast_model
from kd.metrics import classification, mask_statistics
from kd.models import build_untrained, eight_bit, weights
from kd.models.base import Classifier
from kd.models.masked_student import MaskedStudent
from kd.observation import Observation
from kd.progress import ProgressCallback
from kd.store.eight_bit import EightBit
from kd.store.files import write_bytes, write_json
from kd.store.run_files import REWRITTEN
from kd.store.runs import Run, Store
from kd.torch_utils import distributed_ops

BATCH = 64
Inputs = Callable[[NDArray[np.int64]], Tensor]


class _Part(NamedTuple):
    """Predictions for one batch: its start in the split, logits [B, K], and statistics of its masks."""

    start: int
    logits: Tensor
    masks: mask_statistics.BatchStatistics | None


def predict(model: torch.nn.Module, split: Split, device: torch.device | str = "cpu") -> NDArray[np.float32]:
    """Logits [N, K] of a split's images without augmentation. model: in eval mode."""
    return _joined(_parts(model, split, device))


def predict_masked(model: torch.nn.Module, split: Split, device: torch.device | str = "cpu", rank: int = 0,
                   world: int = 1, inputs: Inputs | None = None
                   ) -> tuple[NDArray[np.float32], mask_statistics.MaskStatistics | None]:
    """Logits as by `predict`, and statistics of a masked student's masks (None for other models).

    rank, world: of this process of torch.distributed. Each computes every `world`-th batch, and all get the whole
    result. The batches are those of a single process, so with the same number of threads the result is equal. inputs:
    what the model is given for these images of the split, where that is not the images themselves.
    """
    parts = list(_parts(model, split, device, rank, world, inputs))
    if world > 1:
        parts = sorted(distributed_ops.gather_objects([part._replace(logits=part.logits.cpu()) for part in parts]),
                       key=lambda part: part.start)
    masks = mask_statistics.MaskAccumulator()
    for part in parts:
        if part.masks is not None:
            masks.add_statistics(part.masks)
    return _joined(parts), masks.report()


def predict_fill(model: MaskedStudent, split: Split, device: torch.device | str = "cpu") -> NDArray[np.float32]:
    """Logits [N, K] of a masked student in eval mode when everything is hidden: for the fill alone."""
    return _joined(_parts(_FillOnly(model), split, device))


class _FillOnly(torch.nn.Module):
    """A masked student under a mask that hides everything."""

    def __init__(self, model: MaskedStudent) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, stages: bool = False) -> Observation:
        hidden = self.model.apply_mask(images, torch.zeros_like(images[:, 0]))
        found: Observation = self.model.student(hidden, stages=stages)
        return found


def _parts(model: torch.nn.Module, split: Split, device: torch.device | str, rank: int = 0,
           world: int = 1, inputs: Inputs | None = None) -> Iterator[_Part]:
    """Batch rank, rank + world, rank + 2 world and so on of a split."""
    read: Inputs = inputs or (lambda chosen: to_tensor(read_images(split.images, chosen), device))
    index = np.arange(len(split))
    for start in range(rank * BATCH, len(split), world * BATCH):
        with torch.inference_mode():  # not around the yield: the mode would stay set in the caller
            seen: Observation = model(read(index[start:start + BATCH]), stages=False)
            found = None if seen.mask is None else mask_statistics.batch_statistics(seen.mask.float().cpu().numpy())
            part = _Part(start, seen.logits.float(), found)
        yield part


def _joined(parts: Iterable[_Part]) -> NDArray[np.float32]:
    return torch.cat([part.logits for part in parts]).cpu().numpy()


def load(run: Run, classes: int) -> Classifier:
    """The run's model with its best weights, in eval mode. Raises UsageError when there are none yet."""
    if run.damaged_file not in ("", *REWRITTEN):
        raise UsageError(run.damage)
    if not run.weights.exists():
        raise UsageError(f"{run.id} has no weights yet (it is {run.status}). Wait for its first epoch, or resume it.")
    if isinstance(run, EightBit):
        return eight_bit.load(run.weights, run.spec, classes)
    model = build_untrained(run.spec, classes)
    weights.load(model, run.weights)
    model.mirrors = run.mirrors
    return model.eval()


def data_of(run: Run, store: Store, progress: ProgressCallback | None = None) -> Dataset:
    """The data set that the run was trained on. Raises UsageError when its content has changed."""
    spec = run.spec
    data = open_dataset(spec.data, spec.image_size, store.paths, progress, spec.data_fingerprint)
    if spec.data_fingerprint and spec.data_fingerprint != data.fingerprint:
        raise UsageError(f"The data set {spec.data} has changed since {run.id} learnt from it. Put the old content "
                         "back, or train a new run.")
    return data


def evaluate(run: Run, store: Store) -> dict[str, Any]:
    """Score the run's best weights on its test split; writes `evaluation.json` and `predictions.npz`."""
    data = data_of(run, store)
    model = fast_model(load(run, len(data.classes)), data.test.images.shape[1], len(data.test), store.paths)
    return record(run, predict(model, data.test), data.test)


def record(run: Run, logits: NDArray[np.float32], test: Split) -> dict[str, Any]:
    """Store test logits, with the images' names and patients, and their scores with the run; returns the scores."""
    scores = {"images": len(test), **classification.summarise(logits, test.labels)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, logits=logits, labels=test.labels, names=np.array(test.names),
                        groups=np.array(test.groups or ()))
    write_bytes(run.path / "predictions.npz", buffer.getvalue())
    write_json(run.path / "evaluation.json", scores)
    return scores
