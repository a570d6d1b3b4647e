"""Tasks: long computations on a finished run or a data set, and their states, read from files without torch.

A task is (owner, name, arguments), executed by the queue's worker (`kd.jobs.queue`) or the command line. Its last
recorded state is `tasks/<name>.json` in its owner's folder; whether it is active is derived from a lock beside that
file, as for a run.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from kd.errors import UsageError
from kd.progress import ProgressCallback, ProgressReporter
from kd.registry import Registry
from kd.store.files import held, write_json
from kd.store.runs import CANCELLED, FAILED, FINISHED, INTERRUPTED, QUEUED, RUNNING, Run, Store
from kd.store.task_folder import TaskFolder

ABSENT = "absent"
_STATE_AFTER = {"queued": QUEUED, "started": RUNNING, FINISHED: FINISHED, FAILED: FAILED, CANCELLED: CANCELLED}

Owner = Run | TaskFolder
"""What a task is about, with a folder for its state and result."""

TaskFunction = Callable[[Store, Any, Mapping[str, Any], ProgressCallback, Callable[[], bool]], object]
"""(store, owner, args, progress, should_stop): stores its result with the owner. It calls `should_stop` between batches
and raises `kd.errors.Stopped` when that is True, and UsageError for what the user can correct; a partial result must
not be stored as a complete one."""

TASKS: Registry[TaskFunction] = Registry("task")


@TASKS.add("readouts")
def _readouts(store: Store, run: Run, args: Mapping[str, Any], progress: ProgressCallback,
              should_stop: Callable[[], bool]) -> None:
    """Training of the linear probe of every stage."""
    from kd.inspection import linear_probes

    linear_probes.fit(store, run, progress=progress, should_stop=should_stop)


@TASKS.add("explain")
def _explain(store: Store, run: Run, args: Mapping[str, Any], progress: ProgressCallback,
             should_stop: Callable[[], bool]) -> None:
    """Explanation of one test image that takes longer than a page may wait. args: the fields of `SavedKey`."""
    from kd.inspection import saved

    saved.compute(store, run, args, progress, should_stop)


@TASKS.add("appraisal")
def _appraisal(store: Store, run: Run, args: Mapping[str, Any], progress: ProgressCallback,
               should_stop: Callable[[], bool]) -> None:
    """Evaluation of explanations on the test split. args: the keywords of `evaluate_explanations`."""
    from kd.evaluation.explanations import evaluate_explanations

    evaluate_explanations(store, run, progress=progress, should_stop=should_stop, **args)


@TASKS.add("export")
def _export(store: Store, run: Run, args: Mapping[str, Any], progress: ProgressCallback,
            should_stop: Callable[[], bool]) -> None:
    """Export of a run. args: `format`, `int8` and `folder`, as of `kd.export.run.export`."""
    from kd.export.run import export

    export(store, run, progress=progress, should_stop=should_stop, **args)


@TASKS.add("report")
def _report(store: Store, run: Run, args: Mapping[str, Any], progress: ProgressCallback,
            should_stop: Callable[[], bool]) -> None:
    """Report of a student's distillation. args: its `file`, empty for the run's own folder."""
    from kd.reporting.build import build

    build(store, run, progress=progress, should_stop=should_stop, **args)


@TASKS.add("sweep-times")
def _sweep_times(store: Store, run: Run, args: Mapping[str, Any], progress: ProgressCallback,
                 should_stop: Callable[[], bool]) -> None:
    """Explanation times of a sweep's architectures. run: its teacher. args: the sweep's id."""
    from kd.experiments.sweep import explanation_times

    explanation_times.measure(store, args["sweep"], progress, should_stop)


@TASKS.add("audit")
def _audit(store: Store, owner: Owner, args: Mapping[str, Any], progress: ProgressCallback,
           should_stop: Callable[[], bool]) -> None:
    """Audit of a data set. args: its reference as `data`."""
    from kd.audit.audit import audit

    audit(args["data"], store.paths, progress, should_stop)


@TASKS.add("repair")
def _repair(store: Store, owner: Owner, args: Mapping[str, Any], progress: ProgressCallback,
            should_stop: Callable[[], bool]) -> None:
    """Repair of a data set. args: its reference as `data`, the new set's `name`, and the fields of `Repair`."""
    from kd.audit.repair import Repair, repair

    wanted = {key: value for key, value in args.items() if key not in ("data", "name")}
    repair(args["data"], args["name"], Repair(**wanted), store.paths, progress, should_stop)


@TASKS.add("import")
def _import(store: Store, owner: Owner, args: Mapping[str, Any], progress: ProgressCallback,
            should_stop: Callable[[], bool]) -> None:
    """Import of a source as a named set. args: `source`, `name` and the fields of `ImportOptions` as `options`."""
    from kd.datasets.importing.preview import ImportOptions
    from kd.datasets.importing.run import import_set

    import_set(args["source"], args["name"], ImportOptions.of(args["options"]), store.paths, progress, should_stop)


@dataclass(frozen=True)
class TaskState:
    """State of a task.

    state: absent (never submitted), queued, running, finished, failed, cancelled or interrupted (its program ended).
    share: of the whole, 0..1. phase: in words. reason: of a failure, in words. args: as submitted. asked, started,
    ended: times of submission, start and end, unix seconds, 0 for not yet. traceback: of an error in the program.
    """

    state: str = ABSENT
    share: float = 0.0
    phase: str = ""
    reason: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    asked: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    traceback: str = ""

    @property
    def active(self) -> bool:
        """Whether it is queued or running."""
        return self.state in (QUEUED, RUNNING)


@dataclass(frozen=True)
class Task:
    """A handle on one task of one owner; holds no state, and has the interface of a Run that the queue needs."""

    owner: Owner
    name: str

    @property
    def id(self) -> str:
        """Name of the task in messages and logs."""
        return f"{self.name} of {self.owner.id}"

    @property
    def path(self) -> Path:
        return self.owner.path / "tasks" / f"{self.name}.json"

    @property
    def state(self) -> TaskState:
        """The present state."""
        found = self._read()
        if not found.active or self.is_locked():
            return found
        again = self._read()  # the owner may have ended between the two reads: it writes before its lock is free
        return replace(again, state=INTERRUPTED) if again.active else again

    @property
    def status(self) -> str:
        """The state's name."""
        return self.state.state

    def lock(self) -> FileLock:
        """A fresh, unheld lock, held while the task is queued or running (any thread may release it)."""
        return self.owner.task_lock(self.name)

    def is_locked(self) -> bool:
        """Whether some process has it queued or running now."""
        return held(self.lock())

    def request(self, args: Mapping[str, Any]) -> None:
        """Record that it is queued with these arguments (plain JSON values). The caller holds the lock.

        Raises UsageError when the run is not finished, since its weights, and so every result, would change.
        """
        if self.owner.status != FINISHED:
            raise UsageError(f"{self.owner.id} is {self.owner.status}, not finished, so nothing can be computed of it "
                             "yet. Wait for its end, or resume it.")
        self._write(TaskState(QUEUED, args=dict(args), asked=time.time()))

    def log(self, event: str, **values: Any) -> None:
        """Record an event: started, or how it ended, and why. The caller holds the lock."""
        changes = {"state": _STATE_AFTER[event], "started" if event == "started" else "ended": time.time(), **values}
        if event in ("started", FINISHED):
            changes |= {"share": float(event == FINISHED), "phase": ""}
        self._write(replace(self._read(), **changes))

    def write_progress(self, phase: str, share: float = 0.0) -> None:
        """Update phase and share; the state stays. The caller holds the lock."""
        self._write(replace(self._read(), phase=phase, share=share))

    def run_now(self, store: Store, should_stop: Callable[[], bool]) -> None:
        """Compute the task in this thread. The caller holds the lock and records an error."""
        self.log("started")
        TASKS[self.name](store, self.owner, self._read().args, ProgressReporter(self.write_progress), should_stop)
        self.log(FINISHED)

    def request_cancel(self) -> None:
        """Ask the process that computes this to stop; works from any process."""
        self._cancel.touch()

    def cancel_requested(self) -> bool:
        return self._cancel.exists()

    def clear_cancel(self) -> None:
        self._cancel.unlink(missing_ok=True)

    @property
    def _cancel(self) -> Path:
        return self.path.with_name(f".{self.name}.cancel")

    def _read(self) -> TaskState:
        try:
            return TaskState(**json.loads(self.path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):  # never submitted, or written by another version
            return TaskState()

    def _write(self, state: TaskState) -> None:
        write_json(self.path, vars(state))


def task(owner: Owner, name: str) -> Task:
    """The handle of a task of a run or a data set. Raises UsageError for an unknown name."""
    TASKS[name]
    return Task(owner, name)


def status(owner: Owner, name: str) -> TaskState:
    """Where a task stands, for pages. Raises UsageError for an unknown name."""
    return task(owner, name).state
