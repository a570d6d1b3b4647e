"""Queue with one worker thread for trainings and long computations, which never run in a page's thread.

A queued run is one whose lock this process holds and whose last event is `queued`; it is running once that is
`started`. No other state is stored, so every page of every server reads the same state from the folders, and the runs
of a server that died are *interrupted*. A second lock, one per machine, keeps two servers from training at the same
time. Tasks (`kd.jobs.tasks`: long computations on a finished run or a data set) are in the same queue under the same
rules.
"""

import atexit
import getpass
import logging
import os
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kd.errors import Stopped, UsageError, file_system_sentence
from kd.jobs import tasks
from kd.jobs.tasks import Task
from kd.paths import Paths, default_paths
from kd.store import remains
from kd.store.runs import CANCELLED, DAMAGED, FAILED, FINISHED, INTERRUPTED, QUEUED, RUNNING, Run, Store
from kd.torch_utils.compute import computing_threads, threads, tune_malloc
from kd.training import distributed

PATIENCE = 0.5  # seconds between two attempts to take the machine's lock
FAREWELL = 20.0  # seconds that a stopping server waits for the worker to finish its batch

Work = Run | Task
"""Item of the queue: a run to train, or a computation on a finished one or on a data set."""


def machine_lock() -> FileLock:
    """Lock of this machine, held by the process that trains (KD_LENS_LOCK names another file, for tests)."""
    default = Path(tempfile.gettempdir()) / f"kd-lens-{getpass.getuser()}.lock"
    return FileLock(os.environ.get("KD_LENS_LOCK", default), thread_local=False)


def execute(work: Work, store: Store, stopping: Callable[[], bool] = lambda: False) -> str:
    """Train one run, or compute one task, whose lock the caller holds, and record how it ended; returns the status.

    A cancel request ends it as cancelled; an error as failed, with a reason in words; `stopping` (of the server) leaves
    it interrupted: a run can be resumed, a task submitted again.
    """
    try:
        _carry_out(work, store, lambda: stopping() or work.cancel_requested())
    except Stopped:
        if not work.cancel_requested():
            return INTERRUPTED
        work.log(CANCELLED)
        return CANCELLED
    except Exception as error:
        record_failure(work, error)
        return FAILED
    finally:
        work.clear_cancel()
    return FINISHED


def train_now(run: Run, store: Store) -> None:
    """Train one run in this thread. Raises UsageError when another program has it queued or running, or when it does
    not finish."""
    if run.status in (QUEUED, RUNNING):
        raise UsageError(f"{run.id} is {run.status} in another program. Wait for it, or cancel it there.")
    if run.status == DAMAGED:
        raise UsageError(run.damage)
    remains.remove(store)
    with run.lock(), one_per_machine(run):
        run.clear_cancel()
        status = execute(run, store)
    if status != FINISHED:
        raise UsageError(f"{run.id} {status}. {run.failure_reason}".strip())


def record_failure(work: Work, error: Exception) -> None:
    """Log the reason of a failure: the message of a UsageError, of any other error a sentence and the traceback."""
    if isinstance(error, UsageError):
        work.log(FAILED, reason=str(error))
    else:
        work.log(FAILED, reason=_in_words(error, work), traceback="".join(traceback.format_exception(error)))


def _carry_out(work: Work, store: Store, should_stop: Callable[[], bool]) -> None:
    with computing_threads(threads(0 if isinstance(work, Task) else work.spec.threads)):
        if isinstance(work, Task):
            work.run_now(store, should_stop)
        else:
            from kd.training.loop import train  # here, because it imports torch and pages import this module

            with distributed.as_main_process(work, store):
                train(work, store, should_stop)


def _in_words(error: Exception, work: Work | None = None) -> str:
    text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    lighten, again, place = "Take a smaller batch, image size or model", "resume", "the run's events.jsonl"
    if isinstance(work, Task):
        again, place = "start it again", _state_file(work)
        lighten = f"Close what else runs here, then {again}"
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return f"The machine ran out of memory ({text}). {lighten}."
    if sentence := file_system_sentence(error):
        return sentence.replace("then try again", f"then {again}")
    return f"Internal error ({text}). The traceback is in {place}."


def _state_file(task: Task) -> str:
    """Where a task's state is recorded, in words."""
    return f"the run's tasks/{task.path.name}" if isinstance(task.owner, Run) else str(task.path)


class Queue:
    """Queue of this process's runs and tasks, executed in order by one worker thread."""

    def __init__(self, paths: Paths) -> None:
        self.store = Store(paths)
        self._waiting: list[tuple[Work, FileLock]] = []
        self._current: Work | None = None
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._worker: threading.Thread | None = None
        atexit.register(self.stop)

    def submit(self, runs: Iterable[Run]) -> list[Run]:
        """Queue these runs in order and return those newly queued.

        Runs that are finished or damaged, or already queued or running anywhere, are skipped.
        """
        added = []
        with self._changed:
            for run in runs:
                lock = run.lock()
                if run.status in (FINISHED, RUNNING, QUEUED, DAMAGED) or not _take(lock):
                    continue
                run.clear_cancel()
                run.log("queued")
                self._waiting.append((run, lock))
                added.append(run)
            self._start()
            self._changed.notify_all()
        return added

    def resume(self, run: Run) -> list[Run]:
        """Queue a run that ended early, after its teachers if they have not finished either."""
        return self.submit([*self.store.prerequisites(run), run])

    def submit_task(self, owner: tasks.Owner, task: str, args: Mapping[str, Any] | None = None) -> Task:
        """Queue a task of a finished run or a data set, behind everything that waits, and return it.

        args: the task's own, plain JSON values. A task that is queued or running anywhere is left as it is; one that
        ended in any way is computed again. Raises UsageError for an unknown task or a run that is not finished.
        """
        wanted = tasks.task(owner, task)
        with self._changed:
            lock = wanted.lock()
            if wanted.state.active or not _take(lock):
                return wanted
            try:
                wanted.clear_cancel()
                wanted.request(args or {})
            except BaseException:
                lock.release()
                raise
            self._waiting.append((wanted, lock))
            self._start()
            self._changed.notify_all()
        return wanted

    def cancel(self, work: Work) -> None:
        """Cancel a run or a task, wherever it runs, and remove it from this queue; with a run also its waiting
        students."""
        with self._changed:
            dropped = [pair for pair in self._waiting if self._falls_with(pair[0], work)]
            self._waiting = [pair for pair in self._waiting if pair not in dropped]
            for waiting, lock in dropped:
                waiting.log(CANCELLED)
                lock.release()
        if work.is_locked():
            work.request_cancel()

    @property
    def waiting(self) -> list[Run]:
        """The queued runs of this process, next one first."""
        with self._changed:
            return [work for work, _ in self._waiting if isinstance(work, Run)]

    @property
    def current(self) -> Run | None:
        """The run in training in this process."""
        work = self._current
        return work if isinstance(work, Run) else None

    @property
    def tasks(self) -> list[Task]:
        """The tasks of this process: the running one, then the waiting ones, next one first."""
        with self._changed:
            return [work for work in (self._current, *(work for work, _ in self._waiting)) if isinstance(work, Task)]

    def join(self, timeout: float) -> bool:
        """Wait until nothing is queued or running; returns whether that happened within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and self._current is None, timeout)

    def stop(self) -> None:
        """Stop the worker after its current batch: queued and running runs become interrupted."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._worker and self._worker is not threading.current_thread():
            self._worker.join(FAREWELL)

    def _falls_with(self, waiting: Work, cancelled: Work) -> bool:
        """Whether a waiting item is the cancelled one or a student of it."""
        return waiting == cancelled or (isinstance(waiting, Run) and cancelled in self.store.prerequisites(waiting))

    def _start(self) -> None:
        if self._worker is None or not self._worker.is_alive():
            # A daemon, or a live run would keep the server from ending; `stop` runs at exit and gives it time.
            self._worker = threading.Thread(target=self._work, name="kd-lens-worker", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        tune_malloc()
        remains.remove(self.store)
        while (pair := self._next()) is not None:
            work, lock = pair
            try:
                self._do(work)
            except Exception:  # any error, such as a full disk while logging: the next item is executed
                logging.getLogger(__name__).exception("%s could not be run", work.id)
            finally:
                with self._changed:
                    lock.release()
                    self._current = None
                    self._changed.notify_all()
                _collect()

    def _do(self, work: Work) -> None:
        with one_per_machine(work, lambda: self._stopping.is_set() or work.cancel_requested()) as ours:
            if ours:
                execute(work, self.store, self._stopping.is_set)
            elif work.cancel_requested():
                work.log(CANCELLED)
                work.clear_cancel()

    def _next(self) -> tuple[Work, FileLock] | None:
        """Next item, waiting for one; None when the server stops. Removes items that were cancelled elsewhere."""
        with self._changed:
            while not self._stopping.is_set():
                for work in [work for work, _ in self._waiting if work.cancel_requested()]:
                    self.cancel(work)
                    work.clear_cancel()
                if self._waiting:
                    pair = self._waiting.pop(0)
                    self._current = pair[0]
                    return pair
                self._changed.wait()
        return None


@contextmanager
def one_per_machine(work: Work, give_up: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """A block that holds the machine's lock, after waiting for other programs, which is reported as progress.

    Yields False, without the lock, when `give_up` returned True first.
    """
    lock = machine_lock()
    while not (ours := _take(lock, 0.0)) and not give_up():
        work.write_progress("waiting: another program trains or computes on this machine")
        time.sleep(PATIENCE)
    try:
        yield ours
    finally:
        if ours:
            lock.release()


def _take(lock: FileLock, timeout: float = 2.0) -> bool:
    """Acquire a lock if possible; the default timeout outlasts a probe of the lock by another process."""
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    return True


def _collect() -> None:
    """Collect garbage between two items: Streamlit's own collection is switched off, because it stalls training."""
    import gc

    gc.collect()


def queue(paths: Paths | None = None) -> Queue:
    """Queue of this process for a root.

    It is stored in a synthetic module: any visitor can clear Streamlit's caches, and a reload evicts real modules;
    either would start a second worker beside the first.
    """
    home = sys.modules.setdefault("_kd_lens_queues", types.ModuleType("_kd_lens_queues"))
    guard: threading.Lock = home.__dict__.setdefault("guard", threading.Lock())
    with guard:
        queues: dict[Path, Queue] = home.__dict__.setdefault("queues", {})
        key = (paths or default_paths()).root
        if key not in queues:
            queues[key] = Queue(paths or default_paths())
        return queues[key]
