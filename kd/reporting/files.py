"""Where a run's report lies, and of which runs there is one. Read without torch."""

from pathlib import Path

from kd.errors import UsageError
from kd.store.eight_bit import EightBit
from kd.store.files import modified
from kd.store.runs import FINISHED, Run, Store

TASK, FILE = "report", "report.html"


def report_path(run: Run) -> Path:
    """Where the report of a student's distillation lies, unless another file is asked for."""
    return run.path / FILE


def report_made(run: Run) -> float:
    """When a run's report was made, unix seconds; 0 where there is none."""
    return modified(report_path(run)) / 1e9


def reportable(store: Store, run: Run) -> Run:
    """The student whose distillation is reported for a run, its 8-bit form or itself. Raises UsageError for a run that
    has no teacher or has not finished."""
    student = run.source if isinstance(run, EightBit) else run
    if not student.spec.teacher:
        known = [one.id for one in store if one.spec.teacher == student.id and one.status == FINISHED]
        raise UsageError(f"{student.id} learnt without a teacher, and a report is of a distillation. Name a student"
                         + (f", such as {known[0]}." if known else "."))
    if student.status != FINISHED:
        why = student.failure_reason or "Wait for its end, or resume it."
        raise UsageError(f"{student.id} is {student.status}, not finished. {why}")
    if student.spec.teacher not in store:
        raise UsageError(f"The teacher of {student.id} was deleted, so there is nothing to compare it with.")
    return student
