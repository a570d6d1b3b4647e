"""Progress of a long computation: callbacks, and reporters that limit how often they are called."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kd.errors import Stopped

REPORT_EVERY = 0.7  # seconds between two reports of one phase: pages poll once a second

ProgressCallback = Callable[[str, float], None]
"""Called with the phase and the share of the whole that is done, 0..1."""
ShareCallback = Callable[[float], None]
"""Called with the share that is done, 0..1; may raise to stop, and what it raises reaches the caller."""


def no_progress(phase: str, share: float) -> None:
    """The callback that ignores progress."""


def no_share(share: float) -> None:
    """The callback that ignores a share."""


class ProgressReporter:
    """Reports passed on when their phase is a new one and otherwise about once a second.

    report: called as `report(phase, …)` with whatever else this is called with.
    """

    def __init__(self, report: Callable[..., None], every: float = REPORT_EVERY) -> None:
        self.report, self.every = report, every
        self.phase, self.last = "", 0.0

    def __call__(self, phase: str, *args: Any, **values: Any) -> None:
        now = time.monotonic()
        if phase != self.phase or now - self.last > self.every:
            self.phase, self.last = phase, now
            self.report(phase, *args, **values)


class PhaseProgress:
    """Progress over weighted phases, each of which reports its own share; checks at every report whether to stop.

    total: the sum of all weights.
    """

    START = 0.02  # share of the whole that precedes the first phase, such as opening the data

    def __init__(self, progress: ProgressCallback, should_stop: Callable[[], bool], total: float) -> None:
        self.progress, self.should_stop, self.total = progress, should_stop, total
        self.done = self.weight = self.reached = 0.0
        self.text = ""

    @contextmanager
    def phase(self, text: str, weight: float) -> Iterator[None]:
        """A phase of this weight: a block within which calls report its share."""
        self.text, self.weight = text, weight
        self(0.0)
        yield
        self.done += weight

    def __call__(self, share: float) -> None:
        """Report the share of the phase that is done. Raises Stopped."""
        if self.should_stop():
            raise Stopped
        # Maps that several sections share are computed within one of them, so a phase may begin again: never go back.
        whole = (self.done + share * self.weight) / self.total
        self.reached = max(self.reached, self.START + (1 - self.START) * whole)
        self.progress(self.text, self.reached)
