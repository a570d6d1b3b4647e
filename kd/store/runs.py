"""Runs on disk: their folders are the only channel between the engine and the pages.

A run is `checkpoints/<id>/` with `spec.json`, `events.jsonl` (one JSON object a line), `weights.safetensors` (best on
validation), `resume.pt` (while unfinished), `probes/` (stage maps and masks per epoch), `evaluation.json`,
`predictions.npz`, and `summary.json`, written last. `kd.store.run_files` reads and checks them; status is derived from
these and from a lock, never stored. Results that are computed of a finished run later lie beside these, their progress
in `tasks/` (see `kd.jobs.tasks`); cached teacher outputs for its students in `teacher_outputs/` (see
`kd.training.teacher.cache`).
"""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from kd.errors import UsageError, unknown
from kd.paths import Paths, default_paths
from kd.spec import RunSpec
from kd.store import event_log, run_files
from kd.store.files import held, modified, write_json
from kd.store.row_files import folder_size

SPEC = run_files.SPEC
LONGEST_NAME = 255  # bytes of a file's name, on every common file system
# planned: never queued or started. interrupted: queued or started by a program that has ended since. damaged: a file of
# it cannot be used (`Run.damage`).
PLANNED, QUEUED, RUNNING, FINISHED, FAILED, CANCELLED, INTERRUPTED, DAMAGED = STATUSES = (
    "planned", "queued", "running", "finished", "failed", "cancelled", "interrupted", "damaged")
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
        found = run_files.read_spec(self.path / SPEC)
        if found.value is None:
            raise UsageError(self.damage if self.damaged_file == SPEC else
                             f"There is no run {self.id!r} any more: its folder {self.path} was deleted.")
        spec: RunSpec = found.value
        return spec

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
        return modified(self.path / SPEC) / 1e9

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def resume_state(self) -> Path:
        return self.path / "resume.pt"

    @property
    def damage(self) -> str:
        """Which of its files cannot be used, why, and the way out, in words; empty where all can. Such a run counts as
        not finished."""
        return run_files.in_words(self.id, *run_files.fault(self.path, self.weights))

    @property
    def damaged_file(self) -> str:
        """Name of the file that `damage` is about; empty where there is none."""
        return run_files.fault(self.path, self.weights)[0]

    def events(self) -> list[dict[str, Any]]:
        """All events so far, oldest first: `{"event": name, "time": unix seconds, …}`."""
        return event_log.read(self.path / run_files.EVENTS)

    def epochs(self) -> list[dict[str, Any]]:
        """Events of the finished epochs, one each; of an epoch that was repeated after a kill, the later one."""
        found = {event["epoch"]: event for event in self.events() if event["event"] == "epoch"}
        return [found[number] for number in sorted(found)]

    def log(self, event: str, **values: Any) -> None:
        """Append one event. A line left incomplete by a kill is ended first, so that only it is lost."""
        path = self.path / run_files.EVENTS
        line = json.dumps({"event": event, "time": time.time(), **values}) + "\n"
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode())

    @property
    def summary(self) -> dict[str, Any] | None:
        """Result of a finished run, else None. It is shared with later readers and must not be changed."""
        return self._checked(run_files.SUMMARY)

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """Scores on the test split, or None before they were computed. Shared as `summary` is."""
        return self._checked(run_files.EVALUATION)

    def _checked(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = run_files.read(self.path / name).value
        return found if found is not None and not self.damaged_file else None

    @property
    def status(self) -> str:
        """One of STATUSES."""
        if self.damaged_file and not self.is_locked():
            return DAMAGED
        if (self.path / run_files.SUMMARY).exists():
            return FINISHED
        last = self.last_event(*_LIFECYCLE)
        name = last["event"] if last else ""
        if name in (FAILED, CANCELLED):
            return name
        if not self.is_locked():
            # The owner may have ended between the two reads: it writes its last event before its lock is free.
            return FINISHED if (self.path / run_files.SUMMARY).exists() else self._left()
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
        return run_files.read(self.path / run_files.PROGRESS).value or {}

    def write_progress(self, phase: str, **values: Any) -> None:
        """Update `progress`."""
        write_json(self.path / run_files.PROGRESS, {"phase": phase, "time": time.time(), **values})

    @property
    def failure_reason(self) -> str:
        """Reason in words why the run failed, or is damaged; empty when it did not."""
        if self.damaged_file:
            return self.damage
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
        """The existing or a new run of this spec. Raises UsageError where it is damaged or nothing can be written."""
        if (found := self.find(spec)) is not None:
            return found
        run = Run(self.path / spec.id)
        self._require_free(run)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            write_json(run.path / SPEC, spec.to_json())
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
        """Runs with readable settings, latest first; without those that another process deletes meanwhile."""
        found = [(modified(path), path.parent) for path in self.path.glob(f"[!.]*/{SPEC}")]
        return (run for run in (Run(path) for _, path in sorted(found, reverse=True)) if run.readable())

    def unreadable(self) -> list[Run]:
        """Folders of runs whose settings cannot be read, by name: damaged, without any, or of a newer version."""
        paths = {path.parent for name in (SPEC, run_files.EVENTS, run_files.SUMMARY)
                 for path in self.path.glob(f"[!.]*/{name}")}
        return [run for run in map(Run, sorted(paths)) if not run.readable()]

    def __getitem__(self, run_id: str) -> Run:
        """The run with this id, or with this unambiguous beginning of one. Raises UsageError."""
        if (found := self.get(run_id)) is not None:
            return found
        self._require_free(Run(self.path / Path(run_id).name))
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
        return run if run.readable() else None

    def _require_free(self, run: Run) -> None:
        """Raise UsageError where a run's folder is there and its settings cannot be read."""
        if run.id and len(run.id.encode()) <= LONGEST_NAME and run in self.unreadable():
            raise UsageError(run.damage)

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
        """Remove a run as `kd.store.deletion.delete` does."""
        from kd.store import deletion  # it imports this module

        deletion.delete(self, run_id)
