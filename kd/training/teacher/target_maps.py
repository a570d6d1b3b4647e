"""Target maps of a mask network: one of each training image, moved as its views are."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets.base import Dataset, Split
from kd.datasets.tensors import on_device, read_images, to_tensor
from kd.errors import UsageError
from kd.explainers.base import CHUNK
from kd.explainers.sensitivity import Sensitivity
from kd.methods import TeacherOutputs
from kd.spec import RunSpec
from kd.store.row_files import Index, RowFormat
from kd.store.runs import Run, Store
from kd.torch_utils.resize import upsample
from kd.training import augmentation
from kd.training.batches import Batch
from kd.training.teacher.cache import OutputCache, cache_dir
from kd.training.teacher.cached_teacher import CachedTeacher

OUTPUT = "mask_target"  # its name among the teacher outputs
SENSITIVITY = "sensitivity"

Batches = Iterator[tuple[Batch, TeacherOutputs]]
MapsOf = Callable[[Index], NDArray[Any]]


class TargetMaps:
    """Target maps of a run's training images, made once of the whole image and moved with each view.

    maps_of: from image numbers [B] to maps [B, h, w], float in 0..1; all 0 for an image without a target.
    """

    def __init__(self, maps_of: MapsOf, spec: RunSpec, flip: bool) -> None:
        self.maps_of, self.spec, self.flip = maps_of, spec, flip

    def added(self, batches: Batches) -> Batches:
        """The batches with their maps [B, h, w] among the teacher outputs."""
        return ((batch, {**outputs, OUTPUT: self._of(batch)}) for batch, outputs in batches)

    def _of(self, batch: Batch) -> Tensor:
        maps = on_device(self.maps_of(batch.numbers).astype(np.float32), batch.images.device)
        if not self.spec.views:
            return maps
        moved = augmentation.augment(maps[:, None], batch.numbers, batch.view, self.flip, self.spec.augmentation)
        return moved[:, 0]


def target_maps(spec: RunSpec, data: Dataset, teacher: CachedTeacher, store: Store, student: Run, subset: Index,
                report: Callable[[float], None]) -> TargetMaps:
    """Target maps that `spec.mask_target` names. report: called with the share that is computed.

    Raises UsageError where the training images that are used have no outlines.
    """
    if spec.learns_outlines:
        return TargetMaps(_outlines(data.train, subset), spec, data.info.flip)
    if spec.mask_target != SENSITIVITY:
        raise UsageError("mask_target is none, so the mask network would learn nothing. Choose sensitivity or "
                         "outlines.")
    maps = _sensitivity(data.train, teacher, store, student, subset, report)
    place = np.full(len(data.train), -1)
    place[subset] = np.arange(len(subset))
    return TargetMaps(lambda numbers: maps[place[numbers]], spec, data.info.flip)


def _outlines(train: Split, subset: Index) -> MapsOf:
    evidence, known = train.evidence, train.has_evidence
    if evidence is None or known is None or not known[subset].any():
        raise UsageError("mask_target is outlines, but no training image comes with one. Choose sensitivity, which "
                         "needs none.")
    return lambda numbers: read_images(evidence, numbers) / np.float32(255)


def _sensitivity(train: Split, teacher: CachedTeacher, store: Store, student: Run, subset: Index,
                 report: Callable[[float], None]) -> NDArray[np.float16]:
    """Sensitivity maps [n, h, w] of the teacher's prediction for these images, each scaled to a maximum of 1; from the
    teacher's cache, or computed and written to it."""
    explainer, model = Sensitivity(), teacher.model
    side = _map_side(explainer, teacher, train.images.shape[1])
    precision = str(teacher.fabric.strategy.precision.precision)  # gradients are computed in that of the training
    key = {**{name: value for name, value in teacher.key.items() if name != "engine"}, "precision": precision,
           "views": 0, "augmentation": 0.0, "flip": False, "map": SENSITIVITY, "mirrors": model.mirrors}
    cache = OutputCache(cache_dir(teacher.run, key), {SENSITIVITY: RowFormat((side, side), "float16")})
    cache.enable(store, student, key, [subset])
    rows, hit = cache.read(subset)
    maps, missing = rows[SENSITIVITY], np.flatnonzero(~hit)
    for start in range(0, len(missing), CHUNK):
        report(start / len(missing))
        places = missing[start:start + CHUNK]
        maps[places] = _scaled_maps(explainer, teacher, train, subset[places])
        if not cache.disabled:
            cache.write(subset[places], {SENSITIVITY: maps[places]})
    return maps


def _map_side(explainer: Sensitivity, teacher: CachedTeacher, size: int) -> int:
    """Side of the grid of an explainer's maps for images of `size` pixels."""
    images = torch.zeros(1, 3, size, size, device=teacher.fabric.device)
    return int(explainer(teacher.model, images, torch.zeros(1, dtype=torch.long)).values.shape[-1])


def _scaled_maps(explainer: Sensitivity, teacher: CachedTeacher, train: Split, index: Index) -> NDArray[np.float16]:
    images = to_tensor(read_images(train.images, index), teacher.fabric.device)
    with teacher.fabric.autocast():
        with torch.no_grad():
            predicted = teacher.model(images, stages=False).logits.argmax(dim=1)
        maps = explainer(teacher.model, images, predicted).values
    # Laid where the teacher looks, so that a cell of the target is that place of the image.
    placement = explainer.placement(teacher.model, explainer.stage_of(teacher.model), images.shape[-1])
    maps = upsample(maps, maps.shape[-1], placement)
    return (maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(1e-30)).half().cpu().numpy()
