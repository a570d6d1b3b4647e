"""What may not be deleted; `tests/test_store_runs.py` has the rest."""

import pytest
from fabricate import trio

from kd.errors import UsageError
from kd.store.deletion import delete
from kd.store.runs import Store


def test_a_control_stays_while_its_student_waits_or_trains(own_root):
    store = Store()
    _, control, student = trio(store)
    with student.lock():
        student.log("started")
        with pytest.raises(UsageError, match=f"control of {student.id}, which is"):
            delete(store, control.id)
    assert control.path.exists()
    delete(store, control.id)
    assert not control.path.exists()
