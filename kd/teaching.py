"""What the teacher says of each batch: from disk where it said so before, else by a forward pass that is then kept."""

import errno
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd import evaluate, lessons
from kd.batches import Batch, TrainBatches
from kd.datasets.base import Dataset
from kd.errors import UsageError
from kd.lesson_rows import chunk_of, facts_of, needed, prepared, rows_of
from kd.methods import METHODS, Lesson, Method, build
from kd.models import grouped, weights
from kd.models.base import Classifier
from kd.observation import Observation, aspect
from kd.runs import FINISHED, Run, Store
from kd.shelf import Index, Row, Shelf, folder_size
from kd.spec import RunSpec
from kd.store.files import write_json

AHEAD = 4  # chunks of pictures that may wait until a chunk of those that the teacher has not seen is full
HALF = 65504.0  # the largest float16


def teacher_of(spec: RunSpec, store: Store, classes: tuple[str, ...]) -> Run:
    """The finished run that this one learns from. Raises UsageError unless it knows these classes."""
    if not spec.teacher:
        raise UsageError(f"Method {spec.method!r} needs a teacher. Name a finished run, or choose 'supervised'.")
    run = store[spec.teacher]
    if run.status != FINISHED:
        raise UsageError(f"The teacher {run.id} is {run.status}, not finished. Resume it first.")
    known = (run.summary or {})["classes"]
    if known != list(classes):
        raise UsageError(f"The teacher {run.id} knows the classes {', '.join(known)}; this data set has "
                         f"{', '.join(classes)}. Choose a teacher of this data set.")
    return run


def _require_explainer(spec: RunSpec) -> None:
    needed = METHODS[spec.method].needs_mask
    if needed and not spec.explainer_depth:
        raise UsageError(f"Method {spec.method!r} trains an explainer in front of the student. Set explainer_depth to "
                         "1 or more.")
    if spec.explainer_depth and not needed:
        raise UsageError(f"explainer_depth={spec.explainer_depth} puts an explainer in front of the student, which "
                         f"method {spec.method!r} would not train. Choose 'medtex', or set it to 0.")


def taught(spec: RunSpec, store: Store, data: Dataset, fabric: Fabric,
           log: Callable[..., None]) -> "tuple[Method, Teaching | None]":
    """A run's method, ready for its two models, and who teaches it. Raises UsageError as `teacher_of` does."""
    _require_explainer(spec)
    if not METHODS[spec.method].needs_teacher:
        return build(spec.method, spec.method_args).to(fabric.device), None
    tutor = teacher_of(spec, store, data.classes)
    method = prepared(spec, tutor.spec, len(data.classes)).to(fabric.device)
    return method, Teaching(tutor, spec, data, method, fabric, log)


@dataclass
class _Desk:
    """A batch whose lesson is being put together; `open`: places in it [≤ B] of which nothing is known yet."""

    batch: Batch
    index: Index
    rows: dict[str, Tensor]
    open: list[int] = field(default_factory=list)


class Teaching:
    """Gives a method's lesson for every batch: what the frozen teacher shows of exactly these views.

    What it shows is kept with the teacher's run (`kd.lessons`) and read instead of asked again; the bits are the same.
    The model is loaded when it is asked for the first time, which may be never. log: takes the event `lessons`, whose
    values `report` describes.
    """

    def __init__(self, run: Run, spec: RunSpec, data: Dataset, method: Method, fabric: Fabric,
                 log: Callable[..., None] = lambda *_, **__: None) -> None:
        self.run, self.wants, self.asks, self.fabric, self.log = run, method.wants, method.asks, fabric, log
        self.classes, self.chunk = len(data.classes), chunk_of(fabric.device.type)
        self.facts = facts_of(run, spec, data, fabric.device, str(fabric.strategy.precision.precision))
        self.folder = lessons.folder_of(run, self.facts)
        self.form = rows_of(method, replace(run.spec, image_size=spec.image_size), self.classes)
        self.shelf = Shelf(None, self.form)
        self.store: Store | None = None
        self.reader = ""
        self.kept = self.missing = self.taught = self._written = 0
        self.why = "nobody has asked for them to be kept"
        self._teacher: Classifier | None = None
        self._ready: deque[tuple[Batch, Lesson]] = deque()

    def keep(self, store: Store, reader: Run, subset: Index) -> None:
        """Read what is kept from now on, and keep what is not, if all that a run still needs finds room.

        reader: the run that learns, from these images of the split.
        """
        self.store, self.reader = store, reader.id
        if lessons.limit() == 0:
            self._live("KD_LENS_LESSONS_GB is 0")
            return
        self.shelf = Shelf(self.folder, self.form)
        self.kept, self.missing, cost = self.shelf.survey(needed(subset, reader.spec, self.facts["images"]))
        why = lessons.make_room(store, reader.id, self.folder, cost) if self.missing else ""
        if why:
            self._live(why)
            return
        try:
            self.shelf = Shelf(self.folder, self.form, write=True)
            write_json(self.folder / "meta.json", self.facts)  # its time says when this was last used
        except OSError as error:
            self._live(_refused(error))
            return
        self.why = ""
        self.log("lessons", **self.report())

    def end(self) -> None:
        """Log how it went."""
        self.log("lessons", **self.report())

    def report(self) -> dict[str, Any]:
        """kept, missing: rows that this run needs and that were there, or not, when it began; share: of those kept,
        0..1; taught: images that the teacher was asked about since; bytes: on disk now; live: whether it answers anew
        what is not kept, and why, in words."""
        return {"kept": self.kept, "missing": self.missing, "share": self.kept / max(1, self.kept + self.missing),
                "taught": self.taught, "bytes": folder_size(self.folder), "live": bool(self.why), "why": self.why}

    def epoch(self, batches: TrainBatches, number: int) -> Iterator[Batch]:
        """The batches of an epoch in their order, each with its lesson at hand; some are taken before their turn, so
        that the teacher has full chunks to see.

        It is asked as well about the images that are in no batch of this epoch: for other seeds, others are left out.
        """
        line: deque[_Desk] = deque()
        self._ready.clear()
        for batch in batches.epoch(number, self.fabric.device):
            line.append(self._begin(batch))
            self._ask(line, finish=sum(len(desk.index) for desk in line) >= AHEAD * self.chunk)
            yield from self._hand_out(line)
        rest = None if self.why else batches.rest(number, self.fabric.device)
        self._ask([*line, self._begin(rest)] if rest else line, finish=True)
        yield from self._hand_out(line)

    def answers(self, seen: Observation) -> Lesson:
        """The teacher's logits for the pictures that the student drew and the method asks about, differentiable in
        these. Asked live: no picture comes twice."""
        assert seen.drawn is not None, "the student has no explainer that could draw pictures"
        drawn = [getattr(seen.drawn, name) for name in self.asks]
        # The backward pass of depthwise convolutions in bfloat16 is slower than in float32 on a processor.
        with nullcontext() if grouped(self.run.spec) else self.fabric.autocast():
            logits = self.teacher(torch.cat(drawn), stages=False).logits.float()
        return dict(zip(self.asks, logits.split([len(pictures) for pictures in drawn]), strict=True))

    def lesson(self, batch: Batch) -> Lesson:
        """The wanted aspects [B, …] of the teacher on a batch, float32, without gradient."""
        if self._ready and self._ready[0][0] is batch:
            return self._ready.popleft()[1]
        desk = self._begin(batch)
        self._ask([desk], finish=True)
        return self._lesson(desk)

    @property
    def teacher(self) -> Classifier:
        """The frozen teacher, loaded when first needed. Raises UsageError when its weights are others by now."""
        if self._teacher is None:
            if weights.fingerprint(self.run.weights) != self.facts["teacher"]:
                raise UsageError(f"The weights of the teacher {self.run.id} changed while a student was learning from "
                                 "it. Start the student again.")
            self._teacher = evaluate.load(self.run, self.classes).requires_grad_(False).to(
                memory_format=torch.channels_last).to(self.fabric.device)
        return self._teacher

    def _begin(self, batch: Batch) -> _Desk:
        """What is kept of a batch, on its device."""
        index = batch.view * self.facts["images"] + batch.numbers
        rows, sound = self.shelf.read(index)
        known = {name: torch.from_numpy(values).to(self.fabric.device) for name, values in rows.items()}
        return _Desk(batch, index, known, np.flatnonzero(~sound).tolist())

    def _hand_out(self, line: deque[_Desk]) -> Iterator[Batch]:
        while line and not line[0].open:
            desk = line.popleft()
            self._ready.append((desk.batch, self._lesson(desk)))
            yield desk.batch

    def _lesson(self, desk: _Desk) -> Lesson:
        return {name: (rows.permute(0, 3, 1, 2) if name.startswith("stage:") else rows).float()
                for name, rows in desk.rows.items()}

    def _ask(self, line: "deque[_Desk] | list[_Desk]", finish: bool) -> None:
        """Have the teacher fill the open places, a chunk at a time; `finish`: also those that make up no full one."""
        open_places = [(desk, place) for desk in line for place in desk.open]
        whole = len(open_places) // self.chunk * self.chunk
        for start in range(0, len(open_places) if finish else whole, self.chunk):
            self._teach(open_places[start:start + self.chunk])

    def _teach(self, places: list[tuple[_Desk, int]]) -> None:
        """One forward pass for at most a chunk of places."""
        shown = self._show(torch.stack([desk.batch.images[place] for desk, place in places]))
        for desk in {id(desk): desk for desk, _ in places}.values():
            source = [number for number, (one, _) in enumerate(places) if one is desk]
            target = [places[number][1] for number in source]
            for name, rows in shown.items():
                desk.rows[name][target] = rows[source]
            desk.open = [place for place in desk.open if place not in target]
        self.taught += len(places)
        self._write(np.array([desk.index[place] for desk, place in places], np.int64), shown)

    def _show(self, images: Tensor) -> dict[str, Tensor]:
        """The aspects of at most a chunk of images [b, 3, S, S] as rows [b, …], as they are kept."""
        fill = images[:1].expand(self.chunk - len(images), *images.shape[1:])
        whole = torch.cat([images, fill]).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), self.fabric.autocast():
            seen: Observation = self.teacher(whole, cams="cams" in self.wants)
        return {name: _as_rows(aspect(seen, name)[:len(images)].float(), form) for name, form in self.form.items()}

    def _write(self, index: Index, shown: dict[str, Tensor]) -> None:
        """Keep rows; what the disk refuses, and all that follows, is taught live."""
        if self.why:
            return
        try:
            self._written += self.shelf.write(index, {name: rows.cpu().numpy() for name, rows in shown.items()})
        except OSError as error:
            self._give_back(error)
            return
        if self._written > lessons.STRIDE and self.store is not None:
            self._written = 0
            if why := lessons.out_of_room(self.store):
                self._live(why)

    def _give_back(self, error: OSError) -> None:
        """Room that lessons have taken to the last byte is what the student's own weights are short of."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and self.store and lessons.drop(
                self.store, self.reader, self.folder):
            self.shelf = Shelf(None, self.form)  # the files are closed with the old one, and their room is free
        self._live(_refused(error))

    def _live(self, why: str) -> None:
        """Keep nothing more, and say so; what is kept is still read."""
        self.why = why
        self.log("lessons", **self.report())


def _as_rows(values: Tensor, form: Row) -> Tensor:
    if form.dtype == "float32":
        return values.contiguous()
    return values.permute(0, 2, 3, 1).clamp(-HALF, HALF).half().contiguous()


def _refused(error: OSError) -> str:
    return f"the disk refuses to keep them ({error.strerror or error})"
