"""Which rows make up a student's lessons, what decides each of them, and what they will take."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd import arithmetic, lessons, views
from kd.datasets import cache
from kd.datasets.base import Dataset
from kd.methods import METHODS, Method, Shapes, build
from kd.models import shapes, weights
from kd.runs import FINISHED, Run, Store
from kd.shelf import Index, Row, Shelf
from kd.spec import RunSpec
from kd.torch_utils.rng import isolated_rng

# The teacher always takes so many pictures at once, by device (the rest is filled up): in float32 the last digits of a
# row depend on how many were in its batch, and a kept row must be the one that live teaching would give. Measured with
# eight networks: the same bits from 16 on, on one thread or two; 8 changes them, and 32 is faster than 16.
CHUNK = {"cpu": 32}
CHUNK_ELSEWHERE = 128


@dataclass(frozen=True)
class Ask:
    """What a student will ask for. passes: images that its teacher must look at. size: bytes of disk for new rows; 0
    where they are not kept, and every seed asks anew."""

    passes: float
    size: int


def facts_of(teacher: Run, spec: RunSpec, data: Dataset, device: torch.device, precision: str) -> dict[str, Any]:
    """All that a row depends on beside its view and its image: another value is another row.

    threads: only a run that fixes them promises the last digits, so only it must not share them.
    """
    import timm

    return {"lessons": lessons.VERSION, "teacher": weights.fingerprint(teacher.weights), "plan": teacher.spec.id,
            "data": data.fingerprint, "decoded": cache.VERSION, "images": len(data.train), "size": spec.image_size,
            **_seen(spec), "flip": bool(spec.views) and data.info.flip, "precision": precision,
            "device": _device(device), "threads": spec.threads, "chunk": chunk_of(device.type),
            "torch": torch.__version__, "timm": timm.__version__}


def _seen(spec: RunSpec) -> dict[str, Any]:
    """What decides which picture a view shows; plain images are all the same."""
    return {"views": views.VERSION, "augmentation": spec.augmentation} if spec.views else {
        "views": 0, "augmentation": 0.0}


def chunk_of(kind: str) -> int:
    """How many pictures the teacher takes at once on this kind of device."""
    return CHUNK.get(kind, CHUNK_ELSEWHERE)


def row_of(name: str, stages: Shapes, classes: int) -> Row:
    """How a row of an aspect is kept: half precision for stage features [H, W, C], single for the rest."""
    kind, _, number = name.partition(":")
    if kind == "logits":
        return Row((classes,))
    channels, height, width = stages[int(number or -1)]
    if kind == "stage":
        return Row((height, width, channels), "float16")
    return Row((classes, height, width) if kind == "cams" else (height, width))


def rows_of(method: Method, teacher: RunSpec, classes: int) -> dict[str, Row]:
    """The rows of a prepared method's lesson, by aspect. teacher: its spec, at the student's working size."""
    stages = shapes(teacher, classes)
    return {name: row_of(name, stages, classes) for name in method.wants}


def prepared(spec: RunSpec, teacher: RunSpec, classes: int) -> Method:
    """The method of a student, ready for the stages of the two models at the student's working size."""
    method = build(spec.method, spec.method_args)
    with isolated_rng(spec.seed):
        method.prepare(shapes(spec, classes), shapes(replace(teacher, image_size=spec.image_size), classes))
    return method


def needed(subset: Index, spec: RunSpec, images: int) -> Iterator[Index]:
    """Numbers of the rows that a run needs, epoch by epoch, each once; the same for all seeds and methods.

    subset: the images trained on, of a split of `images`.
    """
    for epoch in range(min(spec.epochs, spec.views) if spec.views else 1):
        view = views.view_number(epoch, subset, spec.views) if spec.views else np.zeros_like(subset)
        yield view * images + subset


def foretell(spec: RunSpec, teacher: RunSpec, classes: int, images: int, store: Store) -> Ask:
    """What a run will ask for, before it is started. images: of the train split."""
    if not METHODS[spec.method].needs_teacher:
        return Ask(0, 0)
    epoch, turns = images * spec.data_fraction, min(spec.epochs, spec.views) if spec.views else 1
    if lessons.limit() == 0:
        return Ask(epoch * spec.epochs, 0)
    folder, count = _kept(spec, teacher, store) or (None, images)
    form = rows_of(prepared(spec, teacher, classes), replace(teacher, image_size=spec.image_size), classes)
    survey = Shelf(folder, form).survey(needed(np.arange(count), spec, count))
    share = min(1.0, survey[0] / max(1.0, sum(survey[:2]) * spec.data_fraction))
    size = round(survey[2] * spec.data_fraction * (share < 1))
    if size and lessons.make_room(store, spec.id, folder or Path(), size, remove=False):
        return Ask(epoch * spec.epochs * (1 - share), 0)
    return Ask(epoch * turns * (1 - share), size)


def _kept(spec: RunSpec, teacher: RunSpec, store: Store) -> tuple[Path, int] | None:
    """(folder, images in the split) of what the teacher's earlier students left for this one."""
    run = store.find(teacher)
    if run is None or run.status != FINISHED or not run.weights.exists():
        return None
    device = arithmetic.device(spec.device)
    found = lessons.find(run, lessons=lessons.VERSION, teacher=weights.fingerprint(run.weights),
                         data=spec.data_fingerprint, decoded=cache.VERSION, size=spec.image_size, **_seen(spec),
                         precision=arithmetic.precision_of(spec), threads=spec.threads, chunk=chunk_of(device),
                         torch=torch.__version__)
    return (found[0], found[1]["images"]) if found else None


def _device(device: torch.device) -> str:
    """What the last digits of a sum depend on: the kind of device, and what it can compute with."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return device.type
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    units = [name for name in arithmetic.BF16 if known.get(name)]
    return " ".join(["cpu", platform.machine(), torch.backends.cpu.get_cpu_capability(), *units])
