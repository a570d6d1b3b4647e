"""Rows of the teacher cache: key, formats, the rows that a run requires, and an estimate of their cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd import methods
from kd.datasets import cache as image_cache
from kd.datasets.base import Dataset
from kd.methods import METHODS, Method, Shapes
from kd.models import stage_shapes, weights
from kd.spec import RunSpec
from kd.store.row_files import Index, RowFiles, RowFormat
from kd.store.runs import FINISHED, Run, Store
from kd.torch_utils import compute
from kd.torch_utils.rng import isolated_rng
from kd.training import augmentation
from kd.training.batches import Shown
from kd.training.image_counts import ImageCounts
from kd.training.precision import resolve_precision, teacher_precision
from kd.training.teacher import cache
from kd.training.training_images import training_fingerprint

# Images in every forward pass of the teacher, by device (the last chunk is filled up): in float32 the last digits of a
# row depend on the batch size, and a cached row must be the one that computing it now would give. Measured with eight
# networks: the same bits from 16 on, on one thread or two; 8 changes them, and 32 is faster than 16.
CHUNK = {"cpu": 32}
CHUNK_ELSEWHERE = 128


@dataclass(frozen=True)
class CacheEstimate:
    """Estimated cost of a student's teacher outputs. passes: images in forward passes of its teacher. size: bytes of
    disk for new rows; 0 where they are not cached and every seed computes them again."""

    passes: float
    size: int


def cache_key(teacher: Run, spec: RunSpec, data: Dataset, device: torch.device, precision: str,
              folds: Sequence[Run] = ()) -> dict[str, Any]:
    """Cache key: everything that a row depends on besides its view and its image. spec: the student's. folds: the fold
    teachers whose outputs it has in place of the teacher's."""
    return {**network_key(teacher, folds), "plan": teacher.spec.id, **row_key(spec, data, device, precision)}


def network_key(teacher: Run, folds: Sequence[Run] = ()) -> dict[str, Any]:
    """Part of a key that says which networks' outputs they are."""
    if not folds:
        return {"teacher": weights.fingerprint(teacher.weights)}
    return {"folds": len(folds), "teacher": " ".join(weights.fingerprint(run.weights)[:16] for run in folds)}


def row_key(spec: RunSpec, data: Dataset, device: torch.device, precision: str) -> dict[str, Any]:
    """Part of a key that does not depend on the network: images, views and arithmetic.

    threads: only a run with a fixed number guarantees the last digits, so only such a run has rows of its own.
    """
    import timm

    return {"version": cache.VERSION, "data": data.fingerprint, "decoded": image_cache.VERSION,
            "images": len(data.train), "size": spec.image_size, **view_key(spec),
            "flip": bool(spec.views) and data.info.flip, "precision": precision, "device": _device_key(device),
            "threads": spec.threads,
            "chunk": chunk_size(device.type), "torch": torch.__version__, "timm": timm.__version__}


def view_key(spec: RunSpec) -> dict[str, Any]:
    """Part of the key that determines a view's pixels; the same for all runs without augmentation. With mixup they
    depend on the images that it may be mixed with, too."""
    if not spec.views:
        return {"views": 0, "augmentation": 0.0}
    mixed = {"mixup": spec.mixup, "among": [spec.data_fraction, spec.fold and spec.folds, spec.fold]}
    return {"views": augmentation.VERSION, "augmentation": spec.augmentation, **(mixed if spec.mixup else {})}


def _device_key(device: torch.device) -> str:
    """Part of the key that determines the last digits of a sum: kind of device and its instruction sets."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return device.type
    return f"cpu {compute.processor()}"


def chunk_size(device: str) -> int:
    """Images in a forward pass of the teacher on this kind of device."""
    return CHUNK.get(device, CHUNK_ELSEWHERE)


def row_format(output: str, stages: Shapes, classes: int) -> RowFormat:
    """Format of an output's rows: half precision for stage features [H, W, C], single precision for the rest."""
    kind, _, number = output.partition(":")
    if kind == "logits":
        return RowFormat((classes,))
    channels, height, width = stages[int(number or -1)]
    if kind == "stage":
        return RowFormat((height, width, channels), "float16")
    return RowFormat((classes, height, width) if kind == "cams" else (height, width))


def row_formats(method: Method, teacher: RunSpec, size: int, classes: int) -> dict[str, RowFormat]:
    """Row formats of a method's teacher outputs, by output. size: side of the student's images in pixels."""
    stages = stage_shapes(teacher.at(size), classes)
    return {name: row_format(name, stages, classes) for name in method.teacher_outputs}


def build_method(spec: RunSpec, teacher: RunSpec, classes: int) -> Method:
    """The student's method, set up for the stages of the two models at the student's image size."""
    method = methods.build(spec.method, spec.method_args)
    with isolated_rng(spec.seed):
        method.setup(stage_shapes(spec, classes), stage_shapes(teacher.at(spec.image_size), classes))
    return method


def required_rows(shown: Shown, views: int, images: int) -> Iterator[Index]:
    """Row numbers that a run requires, pass by pass, each once; the same for all seeds and methods.

    shown: the images trained on, of a split of `images`. views: per image.
    """
    for index, passes in shown:
        for number in range(_new_passes(passes, views)):
            yield (augmentation.view_number(number, index, views) if views else 0) * images + index


def _new_passes(passes: int, views: int) -> int:
    """Of so many passes over images, those that show views not shown before."""
    return min(passes, views or 1)


def estimate(spec: RunSpec, teacher: RunSpec, classes: int, images: ImageCounts, store: Store) -> CacheEstimate:
    """Estimated cost of a run's teacher outputs, before it is started."""
    if not METHODS[spec.method].needs_teacher:
        return CacheEstimate(0, 0)
    formats = row_formats(build_method(spec, teacher, classes), teacher, spec.image_size, classes)
    return estimate_rows(spec, formats, _existing_cache(spec, teacher, store), images, store)


def estimate_rows(spec: RunSpec, formats: Mapping[str, RowFormat], existing: tuple[Path, int] | None,
                  images: ImageCounts, store: Store) -> CacheEstimate:
    """Estimated cost of a run's rows in these formats. existing: as `find_rows` gives it."""
    shown, needed = images.shown(spec), images.rows(spec)
    if cache.quota() == 0:
        return CacheEstimate(shown, 0)
    directory, count = existing or (None, images.split)
    most = max(images.passes(spec))
    hits, misses, missing_bytes = RowFiles(directory, formats).count(
        required_rows([(np.arange(count), most)], spec.views, count))
    used = needed / max(1, images.split * _new_passes(most, spec.views))  # of all that were counted
    hit_rate = min(1.0, hits / max(1.0, (hits + misses) * used))
    size = round(missing_bytes * used * (hit_rate < 1))
    if size and cache.reserve(store, spec.id, directory or Path(), size, remove=False):
        return CacheEstimate(shown * (1 - hit_rate), 0)
    return CacheEstimate(needed * (1 - hit_rate), size)


def _existing_cache(spec: RunSpec, teacher: RunSpec, store: Store) -> tuple[Path, int] | None:
    """(directory, images of the split) of the cache that this student would read."""
    run, folds = store.find(teacher), [store.find(one) for one in spec.fold_teachers(teacher)]
    there = [one for one in (run, *folds) if one and one.status == FINISHED and one.weights.exists()]
    if run is None or len(there) <= len(folds):
        return None
    return find_rows(run, spec, teacher_precision(spec, resolve_precision(spec)), **network_key(run, there[1:]))


def find_rows(owner: Run, spec: RunSpec, precision: str, **network: Any) -> tuple[Path, int] | None:
    """(directory, images of the split) of the owner's cache that a run of this spec would read. network: the part of
    the key that says which network's outputs they are."""
    data = training_fingerprint(spec.data_fingerprint, spec.unlabelled_fingerprint)
    found = cache.find(owner, **network, version=cache.VERSION, data=data,
                       decoded=image_cache.VERSION, size=spec.image_size, **{"mixup": None, **view_key(spec)},
                       precision=precision, threads=spec.threads,
                       chunk=chunk_size(compute.resolve_device(spec.device)), torch=torch.__version__)
    return (found[0], found[1]["images"]) if found else None
