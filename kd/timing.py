"""Times with their protocol: median, spread and n, warm-up outside the clock."""

import statistics
import time
from collections.abc import Callable, Sequence
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
