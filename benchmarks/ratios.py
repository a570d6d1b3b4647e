"""Ratios of the times of several calls to a reference, all timed in the same rounds."""

import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

FORWARD = ("forward", "")
SHORTEST = 0.05  # seconds

Call = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """Ratio of a call's time to the reference's in the same round: median, quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def ratios(forward: Call, calls: dict[tuple[str, str], Call], rounds: int) -> dict[tuple[str, str], Ratio]:
    """Ratio of every call to `forward`, mostly a forward pass, after one uncounted round."""
    every = {**calls, FORWARD: forward}
    often = {key: max(1, math.ceil(SHORTEST / seconds(call))) for key, call in every.items()}
    order, draw = list(every), random.Random(0)
    found: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        draw.shuffle(order)
        taken = {key: statistics.mean(seconds(every[key]) for _ in range(often[key])) for key in order}
        for key in calls:
            found[key].append(taken[key] / taken[FORWARD])
    return {key: Ratio(statistics.median(values), *_quartiles(values)) for key, values in found.items()}


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def seconds(call: Call) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
