"""Results of a sweep: a row per cell, the best cell, the Pareto fronts of accuracy against cost. Read from disk."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from kd.audit.beside import verdict_of
from kd.experiments.differences import PairedDifference, SeedScores, between, difference, signed
from kd.experiments.results import ArmResult, DistillationResult, distillation_result, sentence, test_predictions
from kd.experiments.sweep import Cell, Settings, Sweep, planned_cells
from kd.experiments.sweep.explanation_times import Times, read
from kd.roles import CONTROL, STUDENT
from kd.store.files import modified
from kd.store.groups import Replicates
from kd.store.runs import (
    CANCELLED,
    DAMAGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    PLANNED,
    QUEUED,
    RUNNING,
    Run,
    Store,
)

DELETED = "deleted"
# Precedence of statuses where the runs of a cell differ.
ORDER = (RUNNING, DAMAGED, FAILED, QUEUED, CANCELLED, INTERRUPTED, PLANNED, DELETED, FINISHED)
FLOPS, MILLISECONDS = COSTS = ("flops", "milliseconds")
NOTICE = "Not for clinical use."


@dataclass(frozen=True)
class Row:
    """Present result of one cell.

    status: one of ORDER. reason: why a run of it failed or is damaged, in words. done: runs of control and student that
    have finished, of `runs`. outcome: over the seeds whose control and student have finished; None before the first.
    val_accuracy: of the best epochs, 0..1, by role. milliseconds: of explaining one image, by role; empty where not
    measured. student: the first seed's run.
    """

    cell: Cell
    status: str
    reason: str
    done: int
    runs: int
    outcome: DistillationResult | None
    val_accuracy: Mapping[str, SeedScores]
    milliseconds: Mapping[str, float]
    student: str

    @property
    def settings(self) -> Settings:
        return self.cell.settings

    @property
    def seeds(self) -> int:
        """Seeds that have finished."""
        return len(self.outcome.seeds) if self.outcome else 0

    def arm(self, role: str) -> ArmResult | None:
        """Teacher, control or student of the outcome."""
        return next((arm for arm in self.outcome.arms if arm.role == role), None) if self.outcome else None


@dataclass(frozen=True)
class Point:
    """One model in a chart of accuracy against cost. choice: validation macro-F1; accuracy: on test; both of all seeds.

    milliseconds: of explaining one image; None where it was not measured. row: the cell it stands in, or the first.
    """

    role: str
    row: Row
    choice: SeedScores
    accuracy: SeedScores
    flops: int
    milliseconds: float | None

    def cost(self, name: str) -> float | None:
        """By one of COSTS."""
        return self.flops if name == FLOPS else self.milliseconds


def table(sweep: Sweep, store: Store) -> list[Row]:
    """A row per cell, in the cells' order. Raises UsageError when the sweep was never planned."""
    times = read(store, sweep)
    states: dict[str, str] = {}
    return [_row(cell, store, times, states) for cell in planned_cells(sweep, store)]


def best(rows: Sequence[Row]) -> Row | None:
    """Cell whose student is the best on validation by `ArmResult.choice` (means over the seeds), among those with the
    most finished seeds. None before any has finished. Test scores are not used."""
    return _best(rows, STUDENT, max((row.seeds for row in rows), default=0))


def _best(rows: Iterable[Row], role: str, seeds: int) -> Row | None:
    ready = [(arm, row) for row in rows if row.seeds == seeds and (arm := row.arm(role))]
    return max(ready, key=lambda pair: pair[0].choice)[1] if ready else None


def best_control(rows: Sequence[Row], chosen: Row) -> Row:
    """Cell whose control is the best on validation of those with the chosen student's architecture and sizes: a recipe
    that handicaps its own control makes distilling look good."""
    own = chosen.arm(CONTROL)
    alike = [row for row in rows if own and (other := row.arm(CONTROL)) and _network(other) == _network(own)]
    return _best(alike, CONTROL, chosen.seeds) or chosen


def _network(arm: ArmResult) -> tuple[str, str]:
    return arm.run.spec.model_label, arm.run.spec.sizes


def best_control_sentence(rows: Sequence[Row], chosen: Row, store: Store) -> str:
    """The chosen student beside the best control where that is another cell's, in one sentence; empty otherwise."""
    other = best_control(rows, chosen)
    ours, theirs = chosen.arm(CONTROL), other.arm(CONTROL)
    if not ours or not theirs or ours.run == theirs.run or not chosen.outcome:
        return ""
    students, controls = ([pair[part] for pair in _pairs(row.cell, store) if pair[1].spec.seed in chosen.outcome.seeds]
                          for row, part in ((chosen, 1), (other, 0)))
    gap = _gap(tuple(zip(students, controls, strict=False)),
               tuple(changed(run, "predictions.npz") for run in (*students, *controls)))
    return "" if gap is None else (f"The best control on validation is that of cell {other.cell.number} "
                                   f"({other.cell.title}): student − that control {signed(gap.value)} points "
                                   f"({between(gap)}).")


@lru_cache(maxsize=64)
def _gap(pairs: tuple[tuple[Run, Run], ...], _changed: tuple[int, ...]) -> PairedDifference | None:
    """Difference of the first and the second of each pair on the same test images; None where they have none."""
    found = [(one, two) for pair in pairs for one, two in [map(test_predictions, pair)]
             if one and two and one.same_images(two)]
    return difference([one for one, _ in found], [two for _, two in found]) if found else None


def is_proven(row: Row) -> bool:
    """Whether a row's students are better than the majority class on test: no other is called the best."""
    return row.outcome is not None and row.outcome.beats_majority


def points(rows: Sequence[Row]) -> list[Point]:
    """Teacher, every control once, and every student of the cells that have a result."""
    found: dict[tuple[str, str], Point] = {}
    # The most seeds first: a control that several cells share is then the one with all that have finished.
    for row in sorted(rows, key=lambda row: -row.seeds):
        for arm in row.outcome.arms if row.outcome else ():
            found.setdefault((arm.role, arm.run.id), Point(arm.role, row, arm.val_macro_f1, arm.accuracy, arm.flops,
                                                           row.milliseconds.get(arm.role)))
    return sorted(found.values(), key=lambda point: (point.role, point.row.cell.number))


def front(rows: Sequence[Row], cost: str) -> list[Point]:
    """Pareto front: models with no better one on validation at the same cost or less, cheapest first. cost: one of
    COSTS.

    Chosen by validation macro-F1, so test accuracies need not rise along the front.
    """
    known = [(price, point) for point in points(rows) if (price := point.cost(cost)) is not None]
    chosen: list[Point] = []
    for _, point in sorted(known, key=lambda pair: (pair[0], -pair[1].choice.mean)):
        if not chosen or point.choice.mean > chosen[-1].choice.mean:
            chosen.append(point)
    return chosen


def summary_sentence(row: Row) -> str:
    """Result of a cell in one sentence; empty before it has one."""
    return sentence(row.outcome) if row.outcome else ""


def record(row: Row) -> dict[str, Any]:
    """A row as flat, plain values: None where there is nothing yet."""
    student, control, bought = row.arm("student"), row.arm("control"), row.outcome.vs_control if row.outcome else None
    own, others = row.val_accuracy.get("student"), row.val_accuracy.get("control")
    return {"cell": row.cell.number, **row.settings, "status": row.status, "seeds": row.seeds,
            **_spread("val_accuracy", own), **_spread("val_macro_f1", student.val_macro_f1 if student else None),
            **_spread("test_accuracy", student.accuracy if student else None),
            **_spread("test_macro_f1", student.macro_f1 if student else None),
            **_spread("control_val_accuracy", others),
            **_spread("control_test_accuracy", control.accuracy if control else None), **_difference(bought),
            "parameters": student and student.parameters, "flops": student and student.flops,
            "explanation_ms": row.milliseconds.get("student"), "training_seconds": student and student.seconds.mean,
            "student_run": row.student, "reason": row.reason,
            "warnings": " ".join(row.outcome.warnings) if row.outcome else None}


def as_csv(sweep: Sweep, rows: Sequence[Row], store: Store) -> str:
    """CSV table, a line per cell: its numbers, all shared settings, the versions that computed it, and the notice."""
    lines = [{"sweep": sweep.id, **dict.fromkeys(sweep.axes), **record(row), **shared(sweep), **versions(row, store),
              "audit": audit_verdict(rows, store), "notice": NOTICE} for row in rows]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(name for line in lines for name in line)))
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def audit_verdict(rows: Sequence[Row], store: Store) -> str:
    """The verdict of the data set's audit; empty where it has not been audited, or before the teacher is planned."""
    teacher = store.get(rows[0].cell.teacher) if rows else None
    return verdict_of(teacher) if teacher else ""


def shared(sweep: Sweep) -> dict[str, Any]:
    """Settings that all cells share, with a prefix that distinguishes them from the cells' own."""
    found = {name: value for name, value in asdict(sweep.base).items() if name not in ("method_args", *sweep.axes)}
    return {f"all: {name}": value for name, value in (found | sweep.base.method_args).items()}


def _row(cell: Cell, store: Store, times: Times | None, states: dict[str, str]) -> Row:
    for run_id in cell.ids:
        states[run_id] = states.get(run_id) or _status(run_id, store)
    own = [run_id for pair in cell.pairs for run_id in pair]
    failed = [run for run_id in cell.ids if states[run_id] in (FAILED, DAMAGED) and (run := store.get(run_id))]
    taught = all(states[run_id] == FINISHED for run_id in (cell.teacher, *cell.folds))
    relevant = [states[run_id] for run_id in (own if taught else cell.ids)]
    found = _outcome(cell, store, tuple(run_id for run_id in cell.ids if states[run_id] == FINISHED))
    return Row(cell, min(relevant, key=ORDER.index), failed[0].failure_reason if failed else "",
               sum(states[run_id] == FINISHED for run_id in own), len(own), found, _validated(cell, store, found),
               _milliseconds(found, times), cell.pairs[0][1])


def _status(run_id: str, store: Store) -> str:
    run = store.get(run_id)
    return run.status if run else DELETED


def _outcome(cell: Cell, store: Store, finished: tuple[str, ...]) -> DistillationResult | None:
    teacher = store.get(cell.teacher)
    if teacher is None or teacher.id not in finished:
        return None
    series = Replicates(teacher, tuple(pair for pair in _pairs(cell, store) if all(run.id in finished for run in pair)))
    return _computed(series, tuple(changed(run, "predictions.npz") for run in series.runs))


def _pairs(cell: Cell, store: Store) -> list[tuple[Run, Run]]:
    """Control and student of each seed for which both exist."""
    found = [(store.get(control), store.get(student)) for control, student in cell.pairs]
    return [(control, student) for control, student in found if control and student]


@lru_cache(maxsize=512)
def _computed(series: Replicates, _changed: tuple[int, ...]) -> DistillationResult | None:
    """Result of a distillation, cached because the bootstrap is slow and pages poll every second."""
    return distillation_result(series)


def _validated(cell: Cell, store: Store, found: DistillationResult | None) -> dict[str, SeedScores]:
    if found is None:
        return {}
    # The finished seeds, as the outcome has them.
    pairs = [(first, second) for first, second in _pairs(cell, store)
             if second.summary and second.spec.seed in found.seeds]
    spreads = {}
    for role, arm in zip(("control", "student"), zip(*pairs, strict=True), strict=True):
        values = [_val_accuracy(run, changed(run, "summary.json")) for run in arm]
        if None not in values:
            spreads[role] = SeedScores(tuple(value for value in values if value is not None))
    return spreads


@lru_cache(maxsize=4096)
def _val_accuracy(run: Run, _changed: int) -> float | None:
    """Validation accuracy of the best epoch; None where its event is missing."""
    best_epoch = (run.summary or {}).get("best_epoch")
    return next((float(one["val_accuracy"]) for one in run.epochs() if one["epoch"] == best_epoch), None)


def changed(run: Run, name: str) -> int:
    """Time of a file's last change, as a key for cached results; 0 while the file does not exist."""
    return modified(run.path / name)


def _milliseconds(found: DistillationResult | None, times: Times | None) -> dict[str, float]:
    if found is None or times is None:
        return {}
    labels = {arm.role: arm.run.spec.model_label for arm in found.arms}
    return {role: times.milliseconds[label] for role, label in labels.items() if label in times.milliseconds}


def _spread(name: str, one: SeedScores | None) -> dict[str, float | None]:
    return {name: one.mean if one else None, f"{name}_sd": one.sd if one else None}


def _difference(one: PairedDifference | None) -> dict[str, float | None]:
    return {"student_minus_control_points": one.value if one else None, "low": one.low if one else None,
            "high": one.high if one else None}


def versions(row: Row, store: Store) -> dict[str, str]:
    """Package versions that computed a row's first student; empty before it has finished."""
    student = store.get(row.student)
    summary = (student.summary if student else None) or {}
    return {f"version: {name}": text for name, text in summary.get("versions", {}).items()}
