"""What other processes do in tests. A process that is started imports only this: no torch, no pages."""

from multiprocessing.synchronize import Event
from pathlib import Path

from waiting import PATIENCE

from kd.jobs.queue import Queue, machine_lock
from kd.jobs.tasks import TASKS
from kd.paths import Paths
from kd.store.runs import Run, Store


def hold_machine(ready: Event, done: Event) -> None:
    """Keep the machine's lock until told to leave it."""
    with machine_lock():
        ready.set()
        done.wait(PATIENCE)


def hold_run(run: Run, ready: Event, done: Event) -> None:
    """Keep a run's lock until told to leave it."""
    with run.lock():
        ready.set()
        done.wait(PATIENCE)


def work_until_killed(root: Path, run_id: str, ready: Event, done: Event) -> None:
    """A queue whose first task stands half way, and whose second waits."""

    def stall(*words: object) -> None:
        progress = words[3]
        progress("half way", 0.5)
        ready.set()
        done.wait(PATIENCE)

    TASKS._members["gate"] = stall
    queue = Queue(Paths(root))
    queue.submit_task(Store(Paths(root))[run_id], "gate", {"limit": 3})
    queue.submit_task(Store(Paths(root))[run_id], "readouts")
    queue.join(PATIENCE)
