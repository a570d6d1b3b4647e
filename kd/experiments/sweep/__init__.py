"""Sweeps: one distillation for every combination of settings, with one teacher.

Every cell is an ordinary distillation with ordinary runs: teacher and controls are shared among cells because equal
specs are the same run, and finished runs are used again. A sweep is the file `checkpoints/sweeps/<id>.json`, which
names its runs; its progress is derived from these.
"""

import hashlib
import itertools
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from kd import datasets
from kd.datasets import DataRef
from kd.errors import UsageError, unknown
from kd.experiments.plan import DistillSpec, plan_specs
from kd.experiments.sweep.order import Specs, in_order, series
from kd.experiments.sweep.words import Settings, Value, describe
from kd.renamings import FORMAT, current_axes, current_spec
from kd.spec import NONE, REST, RunSpec, hashed
from kd.store.files import write_json
from kd.store.runs import DAMAGED, FINISHED, Run, Store

AXES = ("method", "soft_targets", "unlabelled", "student", "depth", "width", "student_size", "epochs", "data_fraction",
        "batch_size", "learning_rate", "views", "augmentation", "mixup")
"""Fields of DistillSpec that may have several values; besides these, every hyper-parameter of a method may."""
TRIED = {"alpha": (0.4, 0.7), "temperature": (5, 10, 15)}  # in KD-FMV's table
SHAPES = {"plain": ("depth", "width"), "truncated": ("depth",)}  # settings of a student's architecture, by family


@dataclass(frozen=True)
class Sweep:
    """A distillation and the values of its axes. Frozen, checked when made, the same as JSON.

    axes: from a name in AXES, or of a method's hyper-parameter, to its values; one with a single value becomes part of
    `base`, numbers are sorted. Raises UsageError for an empty list, and for an invalid value or name.
    """

    base: DistillSpec
    axes: Mapping[str, tuple[Value, ...]]

    def __post_init__(self) -> None:
        lists = {name: _checked(name, values) for name, values in self.axes.items()}
        base = _with(self.base, {name: values[0] for name, values in lists.items() if len(values) == 1})
        order = [*(name for name in AXES if name in lists), *sorted(set(lists) - set(AXES))]
        axes = {name: lists[name] for name in order if len(lists[name]) > 1}
        if "epochs" in axes and not base.teacher_epochs:  # else each length of training would have its own teacher
            base = replace(base, teacher_epochs=max(map(int, axes["epochs"])))
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "axes", axes)

    @property
    def id(self) -> str:
        """Readable prefix and a hash of all settings: equal sweeps are the same file."""
        plain = {**self._plain(), "base": hashed(self.base)}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]
        words = (Path(self.base.data.split(":", 1)[0]).stem, *self.axes)
        return "-".join([re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")[:24] or "x" for word in words] + [digest])

    def __hash__(self) -> int:
        return hash(self.id)

    def to_json(self) -> dict[str, Any]:
        """Plain values and their format version; `from_json` gives an equal sweep back."""
        return {"format": FORMAT, **self._plain()}

    def _plain(self) -> dict[str, Any]:
        return {"base": asdict(self.base), "axes": {name: list(values) for name, values in self.axes.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The sweep that `to_json` wrote, in this version or an earlier one. Raises UsageError for unknown fields (a
        newer version's file, say)."""
        version = values.get("format", 1)
        known = [item.name for item in fields(DistillSpec)]
        base = current_spec({**values["base"], "format": version})
        for name in base:
            if name not in known:
                raise unknown("setting", name, known)
        axes = values["axes"] if version >= FORMAT else current_axes(values["axes"])
        return cls(DistillSpec(**base), {name: tuple(one) for name, one in axes.items()})


@dataclass(frozen=True)
class Cell:
    """One combination of settings. number: from 1. settings: its value on every axis that applies to it.

    teacher, pairs, folds: run ids, once it is planned; pairs: control and student of each seed; folds: of the fold
    teachers, if any.
    """

    number: int
    settings: Settings
    teacher: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    folds: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """All its runs, the teacher first."""
        return self.teacher, *self.folds, *(run_id for pair in self.pairs for run_id in pair)

    @property
    def title(self) -> str:
        """`dkd, depth 3, temperature 10`."""
        return describe(self.settings) or "one cell"


def cells(sweep: Sweep) -> tuple[Cell, ...]:
    """Every combination once, not planned. An axis collapses where it does not apply: a hyper-parameter that the method
    lacks, soft targets for one that needs more than logits, the width of a truncated student.

    Raises UsageError for an unknown method, student or hyper-parameter.
    """
    knobs = {name: _knobs(name) for name in sweep.axes.get("method", (sweep.base.method,))}
    asked = {*sweep.base.method_args, *sweep.axes} - set(AXES)
    for name in sorted(asked - set().union(*knobs.values())):
        raise unknown(f"setting of {' or '.join(map(repr, knobs))}", name, sorted(set().union(*knobs.values())))
    found: list[Settings] = []
    for values in itertools.product(*sweep.axes.values()):
        settings = _meaningful(sweep, dict(zip(sweep.axes, values, strict=True)))
        if settings not in found:
            found.append(settings)
    return tuple(Cell(number, settings) for number, settings in enumerate(found, 1))


def request(sweep: Sweep, cell: Cell) -> DistillSpec:
    """The distillation of a cell."""
    full = _with(sweep.base, cell.settings)
    if not _can_be_unlabelled(full):
        full = replace(full, unlabelled=NONE)
    return replace(full, method_args={name: value for name, value in full.method_args.items()
                                      if name in _knobs(full.method)})


def checked(sweep: Sweep, store: Store, data: DataRef | None = None) -> list[tuple[Cell, Specs]]:
    """Every cell with its first seed's teacher, control and student specs; creates no run.

    data: the sweep's data set, where it has been inspected already: it is one for all cells.
    Raises UsageError where any cell is invalid: an unknown model, a method that cannot be used on two classes, a
    setting out of range, or an axis that would need several teachers.
    """
    data = data or datasets.inspect(sweep.base.data, store.paths)
    known = {item.name for item in fields(DistillSpec)}
    found: list[tuple[Cell, Specs]] = []
    for cell in cells(sweep):
        planned = plan_specs(request(sweep, cell), store, data)
        found.append((cell, planned))
        if planned[0] != found[0][1][0]:
            differ = [name for name in sweep.axes if getattr(planned[0], name, 0) != getattr(found[0][1][0], name, 0)]
            own = [f"teacher_{name}" for name in differ if f"teacher_{name}" in known]
            raise UsageError(f"Several values of {' and '.join(differ)} would each train a teacher of their own. "
                             + (f"Set {' and '.join(own)}, or train" if own else "Train")
                             + " the teacher first, and give its run as the teacher.")
    return found


def plan(sweep: Sweep, store: Store, data: DataRef | None = None) -> tuple[Cell, ...]:
    """Check every cell, then create the missing runs and store the sweep with their ids. Raises UsageError."""
    planned = [(cell, series(trio, sweep.base.seeds)) for cell, trio in checked(sweep, store, data)]
    for spec in in_order([one for _, one in planned]):
        store.create(spec)
    found = tuple(replace(cell, teacher=_id(teacher, store), folds=tuple(_id(fold, store) for fold in folds),
                          pairs=tuple((_id(first, store), _id(second, store)) for first, second in pairs))
                  for cell, (teacher, folds, pairs) in planned)
    file = file_of(sweep, store)
    before = _read(file) or {}
    write_json(file, {"sweep": sweep.to_json(), "created": before.get("created") or time.time(),
                      "cells": [_cell_json(cell) for cell in found]})
    return found


def unfinished_runs(sweep: Sweep, store: Store, data: DataRef | None = None) -> list[Run]:
    """Unfinished runs in training order, planned if necessary, without damaged ones.

    The teacher first, which every student needs, then fold teachers; the others are independent. Then, seed by seed,
    the controls and the students cell by cell, so that all cells have a result for one seed early. Raises UsageError.
    """
    return [run for run in runs(plan(sweep, store, data), store) if run.status not in (FINISHED, DAMAGED)]


def runs(planned: Iterable[Cell], store: Store) -> list[Run]:
    """Existing runs of these cells, each once, in training order."""
    ids = in_order([(cell.teacher, cell.folds, cell.pairs) for cell in planned])
    return [run for run_id in ids if (run := store.get(run_id))]


def planned_cells(sweep: Sweep, store: Store) -> tuple[Cell, ...]:
    """Cells as they were planned last, with their runs. Raises UsageError when they never were."""
    found = _read(file_of(sweep, store))
    if found is None:
        raise UsageError(f"The sweep {sweep.id} has not been planned here.")
    today = found["sweep"].get("format", 1) >= FORMAT
    return tuple(Cell(one["number"], one["settings"] if today else current_axes(one["settings"]), one["teacher"],
                      tuple(map(tuple, one["pairs"])), tuple(one.get("folds", ())))
                 for one in found["cells"])


def sweeps(store: Store) -> list[Sweep]:
    """All sweeps of a store that this version understands, latest first."""
    found = [(one["created"], one["sweep"]) for file in _folder(store).glob("*.json") if (one := _read(file))]
    return [sweep for _, values in sorted(found, key=lambda pair: -pair[0]) if (sweep := _understood(values))]


def find(store: Store, sweep_id: str) -> Sweep:
    """The sweep with this id, or with this unambiguous beginning of one. Raises UsageError."""
    known = {sweep.id: sweep for sweep in sweeps(store)}
    known |= {file_of(sweep, store).stem: sweep for sweep in known.values()}  # the id of an earlier version, in links
    near = [name for name in known if name == sweep_id] or [name for name in known if name.startswith(sweep_id)]
    if near and len({known[name].id for name in near}) == 1:
        return known[near[0]]
    if not known:
        raise UsageError(f"There is no sweep {sweep_id!r}: none has been started in {store.path}.")
    raise unknown("sweep", sweep_id, near or known)


def path(store: Store, sweep_id: str) -> Path:
    """File of the sweep with this id."""
    return _folder(store) / f"{sweep_id}.json"


def file_of(sweep: Sweep, store: Store) -> Path:
    """File of a sweep, under another name where an earlier version with fewer settings hashed them to another id."""
    own = path(store, sweep.id)
    return own if own.exists() else next(
        (file for file in _folder(store).glob("*.json")
         if (found := _read(file)) and _understood(found["sweep"]) == sweep), own)


def _meaningful(sweep: Sweep, settings: Settings) -> Settings:
    """Settings without those that do not apply to the method or the student, and without unlabelled images where there
    are none or the method cannot learn from them."""
    family = str(settings.get("student", sweep.base.student))
    shape = SHAPES.get(family, ())
    method = str(settings.get("method", sweep.base.method))
    idle = {*SHAPES["plain"]} - {*shape} | {name for name in ("soft_targets",) if not _takes_out_of_fold(method)}
    if "unlabelled" in settings and not _can_be_unlabelled(_with(sweep.base, {**settings, "method": method})):
        settings = {**settings, "unlabelled": NONE}
    return {name: value for name, value in settings.items()
            if (name in AXES or name in _knobs(method)) and name not in idle}


def _checked(name: str, values: Iterable[Value]) -> tuple[Value, ...]:
    """Values, each once and of the field's type; numbers sorted."""
    known = {item.name: item for item in fields(DistillSpec)}
    if name in known and name not in AXES:
        raise UsageError(f"{name} cannot take several values in a sweep. Those that can: {', '.join(AXES)}, and every "
                         "setting of a method.")
    requests = [_with(DistillSpec(), {name: value}) for value in values]
    found = list(dict.fromkeys(getattr(one, name) if name in known else one.method_args[name] for one in requests))
    if not found:
        raise UsageError(f"{name} has no value. Give at least one.")
    return tuple(found if isinstance(found[0], str) else sorted(found))


def _with(base: DistillSpec, settings: Mapping[str, Any]) -> DistillSpec:
    """The request with these fields, or settings of the method, changed. Raises UsageError for a value out of range."""
    own = {item.name for item in fields(DistillSpec)}
    args = {name: value for name, value in settings.items() if name not in own}
    return replace(base, **{name: value for name, value in settings.items() if name in own},
                   method_args=dict(sorted({**base.method_args, **args}.items())))


@cache
def _knobs(method: str) -> tuple[str, ...]:
    from kd.methods import METHODS

    return tuple(METHODS[method].info.hyperparameters)


@cache
def _takes_out_of_fold(method: str) -> bool:
    from kd.methods import METHODS

    return bool(METHODS[method].needs_logits_only())


def _can_be_unlabelled(wanted: DistillSpec) -> bool:
    """Whether a cell's student can have unlabelled images: there are some, and its method can learn from them."""
    from kd.methods import learns_unlabelled

    return learns_unlabelled(wanted.method, wanted.mask_target) and (
        wanted.unlabelled != REST or wanted.data_fraction < 1)


def _id(spec: RunSpec, store: Store) -> str:
    run = store.find(spec)
    return run.id if run else spec.id


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {**asdict(cell), "pairs": [list(pair) for pair in cell.pairs]}


def _folder(store: Store) -> Path:
    return store.path / "sweeps"


def _understood(values: Mapping[str, Any]) -> Sweep | None:
    try:
        return Sweep.from_json(values)
    except (UsageError, KeyError, TypeError):
        return None


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"sweep", "created", "cells"} <= set(found) else None
