"""Runs on disk: their folders are the only channel between the engine and the pages.

A run is `checkpoints/<id>/` with `spec.json`, `events.jsonl` (one JSON object a line), `weights.safetensors` (best on
validation), `resume.pt` (while unfinished), `probes/` (stage maps and masks per epoch), `evaluation.json`,
`predictions.npz`, and `summary.json`, written last. Status is derived from these and from a lock, never stored. Results
that are computed of a finished run later lie beside these, their progress in `tasks/` (see `kd.jobs.tasks`); cached
teacher outputs for its students in `teacher_outputs/` (see `kd.training.teacher.cache`).
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from kd.errors import UsageError, unknown
from kd.paths import Paths, default_paths
from kd.spec import RunSpec
from kd.store import event_log
from kd.store.files import held, modified, read_json, write_json
from kd.store.row_files import folder_size

LONGEST_NAME = 255  # bytes of a file's name, on every common file system
# planned: never queued or started. interrupted: queued or started by a program that has ended since.
PLANNED, QUEUED, RUNNING, FINISHED, FAILED, CANCELLED, INTERRUPTED = STATUSES = (
    "planned", "queued", "running", "finished", "failed", "cancelled", "interrupted")
_LIFECYCLE = ("queued", "started", "failed", "cancelled")


@dataclass(frozen=True)
class Run:
    """A handle on one run folder.

    It holds only the spec, which never changes, once that was read: a run that another process deletes meanwhile can
    still be queried, and is as if nothing had been computed yet.
    """

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @cached_property
    def spec(self) -> RunSpec:
        path = self.path / "spec.json"
        try:
            return _spec(path, path.stat().st_mtime_ns)
        except FileNotFoundError as error:
            raise UsageError(f"There is no run {self.id!r} any more: its folder {self.path} was deleted.") from error
        except ValueError as error:
            raise UsageError(f"The settings of the run {self.id} cannot be read: {path} is damaged. Delete that "
                             "folder.") from error

    @property
    def label(self) -> str:
        """The model in short, for tables and figures."""
        return self.spec.model_label

    def readable(self) -> bool:
        """Whether this version understands the run's spec."""
        try:
            return bool(self.spec)
        except (OSError, UsageError):
            return False

    @property
    def planned_at(self) -> float:
        """Time at which the spec was written, unix seconds; 0 when the folder is gone."""
        return modified(self.path / "spec.json") / 1e9

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def resume_state(self) -> Path:
        return self.path / "resume.pt"

    def events(self) -> list[dict[str, Any]]:
        """All events so far, oldest first: `{"event": name, "time": unix seconds, …}`."""
        return event_log.read(self.path / "events.jsonl")

    def epochs(self) -> list[dict[str, Any]]:
        """Events of the finished epochs, one each; of an epoch that was repeated after a kill, the later one."""
        found = {event["epoch"]: event for event in self.events() if event["event"] == "epoch"}
        return [found[number] for number in sorted(found)]

    def log(self, event: str, **values: Any) -> None:
        """Append one event. A line left incomplete by a kill is ended first, so that only it is lost."""
        path = self.path / "events.jsonl"
        line = json.dumps({"event": event, "time": time.time(), **values}) + "\n"
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode())

    @property
    def summary(self) -> dict[str, Any] | None:
        """Result of a finished run, else None."""
        return read_json(self.path / "summary.json")

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """Scores on the test split, or None before they were computed."""
        return read_json(self.path / "evaluation.json")

    @property
    def status(self) -> str:
        """One of STATUSES."""
        if (self.path / "summary.json").exists():
            return FINISHED
        last = self.last_event(*_LIFECYCLE)
        name = last["event"] if last else ""
        if name in (FAILED, CANCELLED):
            return name
        if not self.is_locked():
            # The owner may have ended between the two reads: it writes its last event before its lock is free.
            return FINISHED if (self.path / "summary.json").exists() else self._left()
        return RUNNING if name == "started" else QUEUED

    def _left(self) -> str:
        """The status of a run without a summary that no process holds."""
        last = self.last_event(*_LIFECYCLE)
        if last is None:
            return PLANNED
        return last["event"] if last["event"] in (FAILED, CANCELLED) else INTERRUPTED

    @property
    def progress(self) -> dict[str, Any]:
        """Progress of a running run, updated about every second: phase, and in training epoch, epochs, step, steps,
        images_per_second, seconds_left. Empty before the first report."""
        return read_json(self.path / "progress.json") or {}

    def write_progress(self, phase: str, **values: Any) -> None:
        """Update `progress`."""
        write_json(self.path / "progress.json", {"phase": phase, "time": time.time(), **values})

    @property
    def failure_reason(self) -> str:
        """Reason in words why the run failed; empty when it did not."""
        last = self.last_event(*_LIFECYCLE)
        return last.get("reason", "") if last and last["event"] == FAILED else ""

    @property
    def mirrors(self) -> bool:
        """Whether its data set allows mirroring (`DatasetInfo.flip`); False where an earlier version did not record it.
        """
        summary = (self.summary or {}).get("data", {})
        return bool(summary.get("flip", (self.last_event("data") or {}).get("flip", False)))

    def last_event(self, *names: str) -> dict[str, Any] | None:
        """The latest event of one of these names."""
        return next((event for event in reversed(self.events()) if event["event"] in names), None)

    def lock(self) -> FileLock:
        """A fresh, unheld lock on this run, held while it is queued or trained (any thread may release it)."""
        return FileLock(self.path / ".lock", thread_local=False)

    def is_locked(self) -> bool:
        """Whether some process has queued this run, or trains it, now."""
        return held(self.lock())

    def task_lock(self, name: str) -> FileLock:
        """A fresh, unheld lock on one of this run's tasks, held while it is queued or running."""
        return FileLock(self.path / "tasks" / f".{name}.lock", thread_local=False)

    def active_tasks(self) -> list[str]:
        """Names of this run's tasks, and those of its 8-bit form, that are queued or running now, in any process."""
        locks = [*sorted(self.path.glob("tasks/.*.lock")), *sorted(self.path.glob("int8/tasks/.*.lock"))]
        return [path.name[1:].removesuffix(".lock") for path in locks if held(FileLock(path, thread_local=False))]

    def request_cancel(self) -> None:
        """Ask the process that trains this run to stop; works from any process."""
        (self.path / "cancel").touch()

    def cancel_requested(self) -> bool:
        return (self.path / "cancel").exists()

    def clear_cancel(self) -> None:
        (self.path / "cancel").unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes on disk."""
        return folder_size(self.path)


class Store:
    """All runs under one root."""

    def __init__(self, paths: Paths | None = None) -> None:
        self.paths = paths or default_paths()

    @property
    def path(self) -> Path:
        return self.paths.runs

    def create(self, spec: RunSpec) -> Run:
        """The run of this spec: the existing one, or a new one. Raises UsageError where the store cannot be written to.
        """
        if (found := self.find(spec)) is not None:
            return found
        run = Run(self.path / spec.id)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            write_json(run.path / "spec.json", spec.to_json())
        except OSError as error:
            raise UsageError(f"Runs cannot be written to {self.path} ({error.strerror}). Make room there, make it "
                             "writable, or choose another root.") from None
        return run

    def find(self, spec: RunSpec) -> Run | None:
        """The run with this spec, or None."""
        if (named := self.get(spec.id)) is not None:
            return named
        # An earlier version with fewer settings hashed them to another name; read now, its spec is equal.
        return next((run for run in self if run.spec == spec), None)

    def fold_teachers(self, student: RunSpec) -> list[Run]:
        """The fold teachers of a student that are there, planned or trained, by fold."""
        teacher = self.get(student.teacher)
        wanted = student.fold_teachers(teacher.spec) if teacher else ()
        return [run for spec in wanted if (run := self.find(spec))]

    def prerequisites(self, run: Run) -> list[Run]:
        """The runs that must have finished before this one is trained, with its fold teachers."""
        needed = [found for name in run.spec.needed_runs if (found := self.get(name))]
        return [*needed, *self.fold_teachers(run.spec)]

    def folds_of(self, teacher: Run) -> list[Run]:
        """All fold teachers with a run's recipe, by fold."""
        return sorted((run for run in self if run.spec.fold and run.spec.without_fold == teacher.spec),
                      key=lambda run: (run.spec.folds, run.spec.fold))

    def __iter__(self) -> Iterator[Run]:
        """Runs, latest first. Folders without a readable spec are skipped, and those that another process deletes
        meanwhile."""
        found = [(modified(path), path.parent) for path in self.path.glob("[!.]*/spec.json")]
        return (run for run in (Run(path) for _, path in sorted(found, reverse=True)) if run.readable())

    def __getitem__(self, run_id: str) -> Run:
        """The run with this id, or with this unambiguous beginning of one. Raises UsageError."""
        if (found := self.get(run_id)) is not None:
            return found
        near = [run for run in self if run.id.startswith(run_id)] if run_id else []
        if len(near) == 1:
            return near[0]
        if near:
            raise UsageError(f"{run_id!r} is the beginning of {len(near)} runs: {', '.join(r.id for r in near[:5])}. "
                             "Type more of it.")
        ids = [run.id for run in self]
        raise unknown("run", run_id, ids) if ids else UsageError(f"There is no run {run_id!r}: the store "
                                                                 f"{self.path} is empty.")

    def get(self, run_id: str) -> Run | None:
        """The run with exactly this id, or None. Unlike a look-up after `in`, it cannot fail on a run that another
        process deletes between the two."""
        if not re.fullmatch(r"[\w.-]+", run_id) or len(run_id.encode()) > LONGEST_NAME:
            return None
        run = Run(self.path / run_id)
        return run if run.readable() or modified(run.path / "spec.json") else None

    def __contains__(self, run_id: str) -> bool:
        return self.get(run_id) is not None

    def with_weights_file(self, spec: RunSpec) -> RunSpec:
        """The spec with the weights file of the run that its model starts from, where it starts from a run's. Raises
        UsageError unless that run has finished."""
        if not spec.weights_run:
            return spec
        run = self[spec.weights_run]
        if run.status != FINISHED:
            raise UsageError(f"The model starts from the weights of {run.id}, which is {run.status}. Train that to its "
                             "end first.")
        return replace(spec, pretrained=str(run.weights))

    def delete(self, run_id: str) -> None:
        """Remove a run's folder, and with a teacher those of its fold teachers. Raises UsageError while one of them or
        a task of it is queued or running, or when other runs need it."""
        run = self[run_id]
        own = [*self.folds_of(run), run]
        for one in own:
            if one.is_locked():
                raise UsageError(f"{one.id} is {one.status}: cancel it first.")
            if busy := one.active_tasks():
                raise UsageError(f"{one.id} is in use ({', '.join(busy)}): cancel that first, or wait for its end.")
        students = [one.id for one in self if one.spec.teacher == run.id or run in self.fold_teachers(one.spec)]
        if students:
            raise UsageError(f"{run.id} is {'a fold' if run.spec.fold else 'the'} teacher of {', '.join(students)}: "
                             "delete those first.")
        starting = [other.id for other in self if other.spec.weights_run == run.id and other.status != FINISHED]
        if starting:
            raise UsageError(f"{', '.join(starting)} will start from the weights of {run.id}: train or delete those "
                             "first.")
        for one in own:
            # Renamed first, so that a kill in the middle never leaves a run that looks complete and is not.
            removed = one.path.with_name(f".deleted-{one.id}-{time.time_ns()}")
            os.replace(one.path, removed)
            shutil.rmtree(removed, ignore_errors=True)


@lru_cache(maxsize=4096)
def _spec(path: Path, _changed: int) -> RunSpec:
    """Parsed spec file, cached because pages read every run's spec at every poll. Raises ValueError for one that is
    damaged, and UsageError for one of a newer version."""
    try:
        return RunSpec.from_json(json.loads(path.read_text()))
    except (AttributeError, TypeError) as error:  # JSON of another form
        raise ValueError(f"{path} holds no settings") from error
