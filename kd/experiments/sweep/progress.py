"""Progress of a sweep: finished, active and current runs, and the estimated time left. Read without torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from kd.experiments.sweep import Cell, runs
from kd.spec import RunSpec
from kd.store.groups import teacher_label
from kd.store.runs import CANCELLED, FAILED, FINISHED, INTERRUPTED, PLANNED, QUEUED, RUNNING, Run, Store

ACTIVE, ENDED = (RUNNING, QUEUED), (FAILED, CANCELLED, INTERRUPTED, PLANNED)


@dataclass(frozen=True)
class SweepStatus:
    """Status of a sweep.

    cells, done: all, and those whose runs have all finished. runs, finished: likewise, shared ones once; deleted runs
    count as unfinished. active: queued or in training, in training order. ended: neither active nor finished. current:
    in training now. seconds_left: for the active runs, None before a similar run has finished.
    """

    cells: int
    done: int
    runs: int
    finished: int
    active: tuple[Run, ...]
    ended: tuple[Run, ...]
    current: Run | None
    seconds_left: float | None

    @property
    def share(self) -> float:
        """Finished share of the runs, 0..1."""
        return self.finished / self.runs if self.runs else 0.0


def sweep_status(cells: Sequence[Cell], store: Store) -> SweepStatus:
    """Present status of these cells."""
    states = [(run, run.status) for run in runs(cells, store)]
    finished = {run.id for run, status in states if status == FINISHED}
    active = tuple(run for run, status in states if status in ACTIVE)
    current = next((run for run, status in states if status == RUNNING), None)
    total = len({run_id for cell in cells for run_id in cell.ids})
    return SweepStatus(len(cells), sum(finished.issuperset(cell.ids) for cell in cells), total, len(finished), active,
                    tuple(run for run, status in states if status in ENDED), current,
                    _left(active, current, [run for run, _ in states if run.id in finished]))


def place(run: Run, cells: Sequence[Cell]) -> str:
    """`cell 7 of 36, depth 3, alpha 0.4: student, seed 1 of 2`."""
    for cell in cells:
        for seed, (control, student) in enumerate(cell.pairs, 1):
            if run.id == student:
                return f"cell {cell.number} of {len(cells)}, {cell.title}: student, seed {seed} of {len(cell.pairs)}"
            if run.id == control:
                return f"control {run.spec.model_label}, seed {seed} of {len(cell.pairs)}"
    return teacher_label(run.spec)


def _left(active: Iterable[Run], current: Run | None, finished: Iterable[Run]) -> float | None:
    """Estimated seconds left: a waiting run takes the median time of finished runs of its kind; the run in training
    reports its own."""
    took: dict[tuple[object, ...], list[float]] = {}
    for run in finished:
        for key in _kinds(run.spec):
            took.setdefault(key, []).append(float((run.summary or {}).get("seconds", 0.0)))
    total = 0.0
    for run in active:
        own = run.progress.get("seconds_left") if run == current else None
        known = [median(took[key]) for key in _kinds(run.spec) if key in took]
        if own is None and not known:
            return None
        total += float(own) if own is not None else known[0]
    return total


def _kinds(spec: RunSpec) -> tuple[tuple[object, ...], ...]:
    """Keys of the kinds of run to which this one belongs, the most specific first."""
    size = (spec.epochs, spec.data_fraction, spec.unlabelled)
    return (spec.model_label, bool(spec.teacher), *size), (spec.model_label, *size), (bool(spec.teacher), *size)
