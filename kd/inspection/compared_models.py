"""Models of a comparison: a student's teacher, its control, and further students of the same classes."""

from collections.abc import Sequence

from kd.errors import UsageError
from kd.inspection.model_pool import LoadedModel, ModelPool, load_model
from kd.roles import EIGHT_BIT, OTHERS
from kd.store.eight_bit import form_of
from kd.store.groups import control_of
from kd.store.runs import Run, Store


def models_beside(teacher: LoadedModel, student: Run, others: Sequence[Run],
                  pool: ModelPool | None) -> dict[str, LoadedModel]:
    """Further students by role. Raises UsageError for too many, and for one of other classes."""
    if len(others) > len(OTHERS):
        raise UsageError(f"{len(others)} further students are too many to tell apart. Name at most {len(OTHERS)}.")
    roles = iter(OTHERS)
    subjects = {EIGHT_BIT if run == form_of(student) else next(roles): load_model(run, pool) for run in others}
    for subject in subjects.values():
        if subject.classes != teacher.classes:
            raise UsageError(f"{subject.run.id} learnt other classes ({', '.join(subject.classes)}), so it cannot "
                             "stand beside this student. Choose one of the same data set.")
    return subjects


def teacher_of(store: Store, student: Run) -> Run:
    """The student's teacher. Raises UsageError where it learnt without one."""
    if student.spec.teacher:
        return store[student.spec.teacher]
    students = [run.id for run in store if run.spec.teacher]
    way_out = (f"Compare a student: {', '.join(students[:5])}." if students
               else "There is no student yet: distil one first.")
    raise UsageError(f"{student.id} learnt without a teacher, so there is nothing to compare it with. {way_out}")


def control_model(store: Store, student: Run, pool: ModelPool | None) -> tuple[LoadedModel | None, str]:
    """The control, or None and a sentence on what is missing."""
    run = control_of(store, student)
    if run is None:
        return None, "The control (the same student without a teacher) is not in this store."
    if not run.weights.exists():
        return None, f"The control {run.id} is {run.status} and has no weights yet."
    return load_model(run, pool), ""
