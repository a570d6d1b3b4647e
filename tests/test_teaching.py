import pytest
from small import spec

from kd.errors import UsageError
from kd.runs import Store
from kd.teaching import teacher_of


def test_a_teacher_that_has_not_finished_cannot_teach():
    store = Store()
    teacher = store.create(spec(seed=5))
    with pytest.raises(UsageError, match="not finished"):
        teacher_of(spec(method="kd", teacher=teacher.id), store, ("a", "b"))
    with pytest.raises(UsageError, match="needs a teacher"):
        teacher_of(spec(method="kd"), store, ("a", "b"))
