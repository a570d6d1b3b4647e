"""Folders of the tasks that belong to no run: the audit of a data set, for example."""

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from kd.store.runs import FINISHED


@dataclass(frozen=True)
class TaskFolder:
    """A handle on a folder that tasks and their results lie in, named by what the tasks are about.

    title: what that is, in messages. It has the interface of a finished run that a task needs (`kd.jobs.tasks.Task`).
    """

    path: Path
    title: str
    status: str = FINISHED

    @property
    def id(self) -> str:
        return self.title

    def task_lock(self, name: str) -> FileLock:
        """A fresh, unheld lock on one of the tasks, held while it is queued or running."""
        return FileLock(self.path / "tasks" / f".{name}.lock", thread_local=False)
