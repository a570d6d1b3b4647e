"""Times with their protocol: median, spread and n, warm-up outside the clock; and the seconds of a work's parts."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Seconds of `n` repetitions after `warmup` uncounted ones; `low` and `high` are the extremes."""

    median: float
    low: float
    high: float
    n: int
    warmup: int

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.median * 1e3:.1f} ms (median of {self.n}, {self.low * 1e3:.1f}–{self.high * 1e3:.1f})"


def measure(call: Callable[[], Any], repeats: int = 5, warmup: int = 1) -> Timing:
    """Run `call` `warmup` + `repeats` times and time the latter by the wall clock."""
    return summarise(measure_in_turn([call], repeats, warmup)[0], warmup)


def measure_in_turn(calls: Sequence[Callable[[], Any]], repeats: int = 5, warmup: int = 1) -> list[list[float]]:
    """Seconds of `repeats` runs of each call. The calls take turns, so that load on the machine slows all equally."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(warmup + repeats):
        for call, taken in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if turn >= warmup:
                taken.append(time.perf_counter() - start)
    return seconds


def summarise(seconds: Sequence[float], warmup: int = 1) -> Timing:
    """The Timing of these counted repetitions."""
    return Timing(statistics.median(seconds), min(seconds), max(seconds), len(seconds), warmup)


class Stopwatch:
    """Seconds spent in parts of a work, by name. A part within another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._part, self._since = "", 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """A block whose seconds are this part's."""
        outer = self._part
        self._enter(part)
        try:
            yield
        finally:
            self._enter(outer)

    def _enter(self, part: str) -> None:
        now = time.perf_counter()
        if self._part:
            self.seconds[self._part] = self.seconds.get(self._part, 0.0) + now - self._since
        self._part, self._since = part, now
