"""Deletion of runs, and what forbids it."""

import os
import shutil
import time

from kd.errors import UsageError
from kd.store.groups import control_spec
from kd.store.runs import FINISHED, Run, Store


def delete(store: Store, run_id: str) -> None:
    """Remove a run's folder, and with a teacher those of its fold teachers. Raises UsageError while one of them or a
    task of it is queued or running, or when other runs need it."""
    run = store.get(run_id) or _unreadable(store, run_id) or store[run_id]
    own = [*store.folds_of(run), run] if run.readable() else [run]
    for one in own:
        if one.is_locked():
            raise UsageError(f"{one.id} is {one.status}: cancel it first.")
        if busy := one.active_tasks():
            raise UsageError(f"{one.id} is in use ({', '.join(busy)}): cancel that first, or wait for its end.")
    _require_unneeded(store, run)
    for one in own:
        # Renamed first, so that a kill in the middle never leaves a run that looks complete and is not.
        removed = one.path.with_name(f".deleted-{one.id}-{time.time_ns()}")
        os.replace(one.path, removed)
        shutil.rmtree(removed, ignore_errors=True)


def _unreadable(store: Store, run_id: str) -> Run | None:
    return next((run for run in store.unreadable() if run.id == run_id), None)


def _require_unneeded(store: Store, run: Run) -> None:
    """Raise UsageError where other runs need this one."""
    others = [one for one in store if one.id != run.id]
    students = [one.id for one in others if one.spec.teacher == run.id
                or (run.readable() and run in store.fold_teachers(one.spec))]
    if students:
        role = "a fold" if run.readable() and run.spec.fold else "the"
        raise UsageError(f"{run.id} is {role} teacher of {', '.join(students)}: delete those first.")
    starting = [one.id for one in others if one.spec.weights_run == run.id and one.status != FINISHED]
    if starting:
        raise UsageError(f"{', '.join(starting)} will start from the weights of {run.id}: train or delete those first.")
    if run.readable() and (learning := [one for one in others if one.spec.teacher
                                        and control_spec(one.spec) == run.spec and one.is_locked()]):
        raise UsageError(f"{run.id} is the control of {learning[0].id}, which is {learning[0].status}. Cancel that "
                         "first, or wait for its end.")
