"""Speed and memory of an audit on a large data set: `python -m benchmarks.audit [--count N]`.

Random smooth images with text and copies among them are written as a MedMNIST file to a temporary folder and decoded;
then the audit is computed on them. Printed are, of each phase after decoding, the seconds by the clock and of the
processor (on a machine that others use too, the latter divided by the cores is what it would take alone), and the
process's own resident memory (Linux), at its highest, above that before.
"""

import argparse
import os
import platform
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.memory import resident
from kd.audit.audit import audit_opened
from kd.datasets import Dataset, open_dataset
from kd.paths import Paths
from kd.progress import PhaseProgress

CLASSES, PARTS = 4, {"train": 0.7, "val": 0.1, "test": 0.2}
GOAL = 60  # seconds


def main(words: list[str] | None = None) -> None:
    """Print the protocol and the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="images (default 10000)")
    parser.add_argument("--size", type=int, default=224, help="pixels a side (default 224)")
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npz"
        np.savez(path, **arrays(args.count, args.size))  # type: ignore[arg-type]
        paths = Paths(Path(folder))
        started = time.perf_counter()
        data = open_dataset(str(path), args.size, paths)
        print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores; {args.count:,} images of {args.size} px, "
              f"{CLASSES} classes; decoded in {time.perf_counter() - started:.1f} s")
        phases = measured(data, paths)
    whole, of_all, memory = zip(*phases.values(), strict=True)
    lines = {**phases, f"in all; goal at 10,000 images: {GOAL} s": (sum(whole), sum(of_all), max(memory))}
    for phase, (spent, busy, most) in lines.items():
        print(f"{spent:7.1f} s, {busy:6.1f} s of the processor, {most:5.0f} MB  {phase}")
    print("MB: own memory above that before, at its highest")


def arrays(count: int, size: int) -> dict[str, NDArray]:
    """MedMNIST arrays of smooth noise, a class's images brighter in one corner; one image in fifty is a copy."""
    draw = np.random.default_rng(0)
    found: dict[str, NDArray] = {}
    for part, share in PARTS.items():
        rows = round(count * share)
        small = draw.integers(0, 200, (rows, size // 8, size // 8), np.uint8)
        labels = np.arange(rows) % CLASSES
        small[:, :4, :4] += (10 * labels).astype(np.uint8)[:, None, None]
        small[25::50] = small[24:-1:50][:len(small[25::50])]
        found |= {f"{part}_images": small.repeat(8, axis=1).repeat(8, axis=2), f"{part}_labels": labels}
    return found


def measured(data: Dataset, paths: Paths) -> dict[str, tuple[float, float, float]]:
    """By phase: seconds by the clock and of the processor, and the greatest own memory above that before, in MB."""
    before, ended = resident()["own"], threading.Event()
    begun: dict[str, tuple[float, float]] = {}
    peaks: dict[str, float] = {}

    def watch() -> None:
        while not ended.wait(0.1):
            if begun:
                phase = list(begun)[-1]
                peaks[phase] = max(peaks.get(phase, 0.0), resident()["own"] - before)

    def report(phase: str, _: float) -> None:
        begun.setdefault(phase, (time.perf_counter(), time.process_time()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        audit_opened(data, None, paths, PhaseProgress(report, lambda: False, 100))
    finally:
        ended.set()
        watcher.join()
    ends = [*list(begun.values())[1:], (time.perf_counter(), time.process_time())]
    return {phase: (end[0] - start[0], end[1] - start[1], peaks.get(phase, 0.0))
            for (phase, start), end in zip(begun.items(), ends, strict=True)}


if __name__ == "__main__":
    main()
