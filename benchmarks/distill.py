"""Speed of distillation: `python -m benchmarks.distill [--quick]`.

One step of distillation (`kd.training.loop`) against the plain way of scripts: a float32 teacher asked at every step,
NCHW memory, a DataLoader that decodes JPEG files in every epoch. What we do otherwise is switched on one by one. In
every round each way takes its steps, in an order drawn anew, and is divided by the plain way of the same round; the
plain way is the one whose number of worker processes suits it best. `--finish DATA --teacher-run RUN` times whole
distillations.
"""

import argparse
import itertools
import math
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import finish
from benchmarks.ways import BF16, Pair, Scene, Way, ladder, shares
from kd.torch_utils import compute

TEACHERS, WIDTHS, SIZES, BATCH, WORKERS = ("densenet121", "resnet50"), (16, 32), (64, 224), 32, (0, 1)
SHORTEST = 0.5  # seconds of steps that are counted for each way in a round
PAUSE = 0.3  # seconds in which worker processes refill their queues, so that they do not slow the next way


@dataclass(frozen=True)
class Median:
    """Median over the rounds, with quartiles."""

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}–{self.high:.{digits}f})"


@dataclass(frozen=True)
class Found:
    """Result for one pair. speeds: images/s by way. gains: speed relative to the plain way. base: name of that plain
    way. shares: of our step's time, by part."""

    speeds: Mapping[str, Median]
    gains: Mapping[str, Median]
    base: str
    shares: Mapping[str, float]


def measure(ways: Mapping[str, Way], batch: int, rounds: int) -> dict[str, list[float]]:
    """Images/s of every way in every round."""
    often = {name: max(1, math.ceil(SHORTEST / _seconds(way, 2))) for name, way in ways.items()}
    order, draw = list(ways), random.Random(0)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        draw.shuffle(order)
        for name in order:
            _seconds(ways[name], ways[name].lead)
            found[name].append(batch / _seconds(ways[name], often[name]))
            time.sleep(PAUSE)
    return found


def _seconds(way: Way, steps: int) -> float:
    """Wall-clock seconds of one step, the mean over so many."""
    began = time.perf_counter()
    for _ in range(steps):
        way.step()
    return (time.perf_counter() - began) / steps


def judge(pair: Pair, scene: Scene, workers: Sequence[int], rounds: int) -> Found:
    """Result of all ways for one pair."""
    ways = ladder(pair, scene, workers)
    speeds = measure(ways, pair.batch, rounds)
    base = max(list(speeds)[:len(workers)], key=lambda name: statistics.median(speeds[name]))
    gains = {name: [ours / plain for ours, plain in zip(values, speeds[base], strict=True)]
             for name, values in speeds.items()}
    last = list(ways.values())[-1]
    return Found({name: _median(values) for name, values in speeds.items()},
                 {name: _median(values) for name, values in gains.items()}, base,
                 shares(last, max(5, math.ceil(SHORTEST / _seconds(last, 1))), time.perf_counter))


def _median(values: list[float]) -> Median:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Median(statistics.median(values), low, high)


def table(pair: Pair, found: Found) -> str:
    """Table of the results of one pair."""
    lines = [f"\n{pair}", f"{'':<36}{'images/s':>24}{'× plain':>24}"]
    lines += [f"{name:<36}{speed.text(0):>24}{found.gains[name].text(2):>24}" for name, speed in found.speeds.items()]
    where = ", ".join(f"{name} {share:.0%}" for name, share in found.shares.items())
    return "\n".join([*lines, f"A step of ours: {where}."])


def goal(pair: Pair, found: Found, bf16: bool) -> str | None:
    """Claim for the slim student at 64 px, and whether this run confirms it."""
    if (pair.size, pair.width) != (64, 16):
        return None
    wanted, reached = 8 if bf16 else 4, list(found.gains.values())[-1].median
    return (f"{'reached' if reached >= wanted else 'MISSED'}: {pair} at least {wanted} × the plain way "
            f"({found.base}): {reached:.1f}")


def protocol(rounds: int) -> str:
    """Protocol of the measurement in one line."""
    return f"Median (quartiles) of {rounds} rounds of at least {SHORTEST} s after uncounted steps; {machine()}"


def machine() -> str:
    """Machine, its load, and versions."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (f"cpu, {torch.get_num_threads()} threads of {os.cpu_count()} cores{load}; {platform.machine()}, "
            f"Python {platform.python_version()}, torch {torch.__version__}.")


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distill", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one pair and few rounds: a look, no evidence")
    parser.add_argument("--teachers", nargs="+", metavar="NAME", help=f"timm's names (default {' '.join(TEACHERS)})")
    parser.add_argument("--widths", nargs="+", type=int, help="the student's, of 5 layers (default 16 32)")
    parser.add_argument("--sizes", nargs="+", type=int, help="sides of the pictures in pixels (default 64 224)")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"images a step (default {BATCH})")
    parser.add_argument("--rounds", type=int, help="counted rounds (default 7, quick 3)")
    parser.add_argument("--workers", nargs="+", type=int, default=WORKERS,
                        help="worker processes that the plain way may have (default 0 1)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: as torch chooses)")
    parser.add_argument("--finish", metavar="DATA", help="time whole distillations on this folder of class folders")
    parser.add_argument("--teacher-run", metavar="RUN", help="with --finish: the teacher, a finished run of the store")
    parser.add_argument("--epochs", type=int, default=10, help="with --finish (default 10)")
    return parser


def main(arguments: Sequence[str] | None = None) -> dict[Pair, Found]:
    """Measure as the command line says, print, and return the results."""
    parser = _flags()
    args = parser.parse_args(arguments)
    compute.tune_malloc()  # as programs that train do; the plain way also gains by it
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.finish:
        if not args.teacher_run:
            parser.error("--finish needs --teacher-run")
        print(finish.compare(args.finish, args.teacher_run, args.epochs, args.batch, args.workers, args.threads or 0),
              machine(), sep="\n")
        return {}
    pairs = [Pair(*chosen, args.batch) for chosen in itertools.product(
        args.teachers or TEACHERS[:1 if args.quick else 2], args.widths or WIDTHS[:1 if args.quick else 2],
        args.sizes or SIZES[:1 if args.quick else 2])]
    rounds = args.rounds or (3 if args.quick else 7)
    results: dict[Pair, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), max(40, 4 * args.batch))
        for pair in pairs:
            results[pair] = judge(pair, scene, args.workers, rounds)
            print(table(pair, results[pair]), flush=True)
    bf16 = any(BF16 in found.speeds for found in results.values())
    print("", *filter(None, (goal(pair, found, bf16) for pair, found in results.items())), protocol(rounds), sep="\n")
    return results


if __name__ == "__main__":
    main()
