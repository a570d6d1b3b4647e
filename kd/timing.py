"""Times with their protocol: median, spread and n, warm-up outside the clock."""

import statistics
import time
from collections.abc import Callable
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
    for _ in range(warmup):
        call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return Timing(statistics.median(seconds), min(seconds), max(seconds), repeats, warmup)
