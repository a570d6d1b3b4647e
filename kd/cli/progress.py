"""Progress of trainings and tasks on stderr, read from the run's folder."""

import sys
import threading

from kd.jobs.tasks import Task
from kd.store.runs import Run


def say(text: str) -> None:
    """Print a message to stderr; results go to stdout."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class _Follower:
    """Background thread that prints progress while the block runs."""

    def __init__(self, heading: str) -> None:
        self.heading, self.done = heading, threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        say(self.heading)
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _follow(self) -> None:
        while not self.done.wait(1.0):
            self._print_new()
        self._print_new()

    def _print_new(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _print_new")


class Phases(_Follower):
    """Progress of a task: its phases."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"{task.id}: computing")
        self.task, self.phase = task, ""

    def _print_new(self) -> None:
        phase = self.task.state.phase
        if phase not in ("", self.phase):
            say(f"  {phase}")
        self.phase = phase


class Epochs(_Follower):
    """Progress of a run: its epochs."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"{run.id}: training")
        self.run, self.seen = run, len(run.events())

    def _print_new(self) -> None:
        events = self.run.events()
        for event in events[self.seen:]:
            if event["event"] == "epoch":
                say(f"  epoch {event['epoch'] + 1}/{self.run.spec.epochs}  loss {event['loss']:.3f}  "
                     f"val accuracy {event['val_accuracy']:.3f}  {event['images_per_second']:.0f} images/s"
                     + (f"  mask {100 * event['mask_area']:.0f} %" if "mask_area" in event else ""))
        self.seen = len(events)
