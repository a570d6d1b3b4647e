"""Models of a comparison: what is missing is said, with the way out."""

from dataclasses import replace

import pytest
from made_runs import CONTROL, TEACHER, made, made_trio, student_spec

from kd.errors import UsageError
from kd.inspection.compared_models import control_model, models_beside, teacher_of
from kd.inspection.model_pool import load_model
from kd.roles import OTHERS
from kd.store.runs import Store


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_run_without_a_teacher_says_which_students_there_are(store: Store) -> None:
    teacher = made(store, TEACHER)
    with pytest.raises(UsageError, match="distil one first"):
        teacher_of(store, teacher)
    student = made(store, student_spec(teacher))
    assert teacher_of(store, student) == teacher
    with pytest.raises(UsageError, match=student.id):
        teacher_of(store, teacher)


def test_the_control_is_loaded_or_its_lack_is_said(store: Store) -> None:
    student = made(store, student_spec(made(store, TEACHER)))
    assert control_model(store, student, None) == (None, "The control (the same student without a teacher) is not in "
                                                         "this store.")
    control = made(store, CONTROL)
    found, said = control_model(store, student, None)
    assert found is not None and (found.run, said) == (control, "")


def test_further_students_are_few_and_of_the_same_classes(store: Store) -> None:
    teacher, _, student = made_trio(store)
    subject = load_model(teacher)
    second = made(store, replace(student.spec, seed=1))
    assert {role: one.run for role, one in models_beside(subject, student, [second], None).items()} == {
        OTHERS[0]: second}
    with pytest.raises(UsageError, match="too many"):
        models_beside(subject, student, [second] * 4, None)
    foreign = made(store, replace(student.spec, seed=2), ("a", "b", "c"))
    with pytest.raises(UsageError, match="other classes"):
        models_beside(subject, student, [foreign], None)
