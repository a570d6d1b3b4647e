"""Teacher outputs per batch, from the cache or computed in chunks and then cached."""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd import methods
from kd.datasets.base import Dataset
from kd.errors import UsageError
from kd.evaluation import predict
from kd.methods import METHODS, Method, TeacherOutputs
from kd.models import has_depthwise, weights
from kd.models.base import Classifier
from kd.observation import Observation, select_output
from kd.spec import RunSpec
from kd.store.row_files import Index, RowFormat
from kd.store.runs import FINISHED, Run, Store
from kd.training.batches import Batch, TrainBatches
from kd.training.teacher.cache import EVENT, OutputCache, cache_dir
from kd.training.teacher.rows import build_method, cache_key, chunk_size, required_rows, row_formats

LOOKAHEAD = 4  # chunks of images that may wait until the images without a cached row fill a chunk
HALF_MAX = 65504.0  # the largest float16


def find_teacher(spec: RunSpec, store: Store, classes: tuple[str, ...]) -> Run:
    """The finished run that a student of this spec learns from. Raises UsageError unless it has these classes."""
    if not spec.teacher:
        raise UsageError(f"Method {spec.method!r} needs a teacher. Name a finished run, or choose 'supervised'.")
    run = store[spec.teacher]
    if run.status != FINISHED:
        raise UsageError(f"The teacher {run.id} is {run.status}, not finished. Train it to its end first.")
    known = (run.summary or {})["classes"]
    if known != list(classes):
        raise UsageError(f"The teacher {run.id} knows the classes {', '.join(known)}; this data set has "
                         f"{', '.join(classes)}. Choose a teacher of this data set.")
    return run


def _check_mask_net(spec: RunSpec) -> None:
    needed = METHODS[spec.method].needs_mask_net
    if needed and not spec.mask_net_depth:
        raise UsageError(f"Method {spec.method!r} trains a mask network in front of the student. Set mask_net_depth to "
                         "1 or more.")
    if spec.mask_net_depth and not needed:
        raise UsageError(f"mask_net_depth={spec.mask_net_depth} puts a mask network in front of the student, which "
                         f"method {spec.method!r} would not train. Choose 'medtex', or set it to 0.")


def build_method_and_teacher(spec: RunSpec, store: Store, data: Dataset, fabric: Fabric,
                             log: Callable[..., None]) -> "tuple[Method, CachedTeacher | None]":
    """A run's method, set up for its two models, and its teacher, if any. Raises UsageError as `find_teacher` does."""
    _check_mask_net(spec)
    if not METHODS[spec.method].needs_teacher:
        return methods.build(spec.method, spec.method_args).to(fabric.device), None
    run = find_teacher(spec, store, data.classes)
    method = build_method(spec, run.spec, len(data.classes)).to(fabric.device)
    return method, CachedTeacher(run, spec, data, method, fabric, log)


def epoch_batches(teacher: "CachedTeacher | None", batches: TrainBatches, epoch: int,
                  device: torch.device) -> Iterator[tuple[Batch, TeacherOutputs]]:
    """An epoch's batches in their order, each with its teacher outputs, empty without a teacher."""
    return teacher.batches(batches, epoch) if teacher else ((batch, {}) for batch in batches.epoch(epoch, device))


@dataclass
class _PendingBatch:
    """A batch with its rows [B, …] by output; missing: positions in the batch whose rows are not known yet."""

    batch: Batch
    index: Index
    rows: dict[str, Tensor]
    missing: list[int]

    def outputs(self) -> TeacherOutputs:
        """Float32 outputs [B, …], of stages [B, C, H, W] in channels_last memory."""
        return {name: (rows.permute(0, 3, 1, 2) if name.startswith("stage:") else rows).float()
                for name, rows in self.rows.items()}


class CachedTeacher:
    """Outputs of a frozen teacher for every batch of a student's training.

    Outputs are read from the teacher's cache, or computed and written to it: the same rows, up to rounding that depends
    on their position in a chunk. The model is loaded when it is first needed, which may be never. spec: the student's.
    log: takes the event `teacher_cache` with the values of `usage`.
    """

    def __init__(self, run: Run, spec: RunSpec, data: Dataset, method: Method, fabric: Fabric,
                 log: Callable[..., None] = lambda *_, **__: None) -> None:
        self.run, self.fabric, self.log = run, fabric, log
        self.live_queries = method.live_queries
        self.classes, self.chunk = len(data.classes), chunk_size(fabric.device.type)
        self.key = cache_key(run, spec, data, fabric.device, str(fabric.strategy.precision.precision))
        self.formats = row_formats(method, run.spec, spec.image_size, self.classes)
        self.cache = OutputCache(cache_dir(run, self.key), self.formats, self.log_usage)
        self.computed = 0
        self._model: Classifier | None = None

    def enable_cache(self, store: Store, student: Run, subset: Index) -> None:
        """Read and write the cache from now on. student: the run in training, on these images of the split."""
        self.cache.enable(store, student, self.key, required_rows(subset, student.spec, self.key["images"]))

    def usage(self) -> dict[str, Any]:
        """hits, misses, bytes and disabled, as `OutputCache`; computed: images that the teacher has processed."""
        return {**self.cache.usage(), "computed": self.computed}

    def log_usage(self) -> None:
        """Log the event `teacher_cache`."""
        self.log(EVENT, **self.usage())

    def batches(self, batches: TrainBatches, epoch: int) -> Iterator[tuple[Batch, TeacherOutputs]]:
        """The batches of an epoch in their order, each with its teacher outputs.

        Some batches are fetched ahead, so that the teacher computes full chunks. While outputs are cached it also
        computes the images that are in no batch of this epoch: for other seeds, others are left out.
        """
        pending: deque[_PendingBatch] = deque()
        for batch in batches.epoch(epoch, self.fabric.device):
            pending.append(self._lookup(batch))
            self._fill_missing(pending, partial=sum(len(one.index) for one in pending) >= LOOKAHEAD * self.chunk)
            while pending and not pending[0].missing:
                complete = pending.popleft()
                yield complete.batch, complete.outputs()
        left_out = None if self.cache.disabled else batches.rest(epoch, self.fabric.device)
        self._fill_missing([*pending, self._lookup(left_out)] if left_out else pending, partial=True)
        yield from ((one.batch, one.outputs()) for one in pending)

    def query(self, student: Observation) -> TeacherOutputs:
        """Teacher logits for images that the student made, by the names in the method's `live_queries`.

        Differentiable in these images, and never cached: no such image occurs twice.
        """
        assert student.mask_samples is not None, "the student has no mask network that could draw masks"
        images = [getattr(student.mask_samples, name) for name in self.live_queries]
        # The backward pass of depthwise convolutions in bfloat16 is slower than in float32 on a processor.
        with nullcontext() if has_depthwise(self.run.spec) else self.fabric.autocast():
            logits = self.model(torch.cat(images), stages=False).logits.float()
        return dict(zip(self.live_queries, logits.split([len(one) for one in images]), strict=True))

    @property
    def model(self) -> Classifier:
        """The frozen network, loaded when first needed. Raises UsageError when its weights have changed since."""
        if self._model is None:
            if weights.fingerprint(self.run.weights) != self.key["teacher"]:
                raise UsageError(f"The weights of the teacher {self.run.id} changed while a student was learning from "
                                 "it. Start the student again.")
            self._model = predict.load(self.run, self.classes).requires_grad_(False).to(
                memory_format=torch.channels_last).to(self.fabric.device)
        return self._model

    def _lookup(self, batch: Batch) -> _PendingBatch:
        """A batch with its cached rows, on its device."""
        index = batch.view * self.key["images"] + batch.numbers
        rows, hit = self.cache.read(index)
        known = {name: torch.from_numpy(values).to(self.fabric.device) for name, values in rows.items()}
        return _PendingBatch(batch, index, known, np.flatnonzero(~hit).tolist())

    def _fill_missing(self, pending: Collection[_PendingBatch], partial: bool) -> None:
        """Compute missing rows, a full chunk at a time; partial: also those that do not fill the last chunk."""
        count = sum(len(one.missing) for one in pending)
        while count >= self.chunk or (partial and count):
            chosen = _first_missing(pending, self.chunk)
            self._forward_chunk(chosen)
            count -= sum(len(places) for _, places in chosen)

    def _forward_chunk(self, chosen: list[tuple[_PendingBatch, list[int]]]) -> None:
        """One forward pass for these places of pending batches, a chunk of them at most."""
        computed = self._teacher_outputs(torch.cat([one.batch.images[places] for one, places in chosen]))
        lengths = [len(places) for _, places in chosen]
        for name, rows in computed.items():
            for (one, places), own_rows in zip(chosen, rows.split(lengths), strict=True):
                one.rows[name][places] = own_rows
        for one, places in chosen:
            one.missing = one.missing[len(places):]
        self.computed += sum(lengths)
        if not self.cache.disabled:
            index = np.concatenate([one.index[places] for one, places in chosen])
            self.cache.write(index, {name: rows.cpu().numpy() for name, rows in computed.items()})

    def _teacher_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs of at most a chunk of images [b, 3, S, S] as rows [b, …] in their cached format."""
        filler = images[:1].expand(self.chunk - len(images), *images.shape[1:])
        full = torch.cat([images, filler]).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), self.fabric.autocast():
            seen: Observation = self.model(full, cams="cams" in self.formats)
        return {name: _as_rows(select_output(seen, name)[:len(images)].float(), row)
                for name, row in self.formats.items()}


def _first_missing(pending: Collection[_PendingBatch], count: int) -> list[tuple[_PendingBatch, list[int]]]:
    """The first `count` missing places, by batch."""
    chosen = []
    for one in pending:
        if places := one.missing[:count]:
            chosen.append((one, places))
            count -= len(places)
    return chosen


def _as_rows(values: Tensor, row: RowFormat) -> Tensor:
    if row.dtype == "float32":
        return values.contiguous()
    return values.permute(0, 2, 3, 1).clamp(-HALF_MAX, HALF_MAX).half().contiguous()
