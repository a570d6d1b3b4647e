"""Memory of a training on a large data set: `python -m benchmarks.memory [--count N]`.

Random images are written as a MedMNIST file to a temporary folder, decoded to the memory-mapped cache, and trained on
by `kd.training.loop` with a tiny student. Between all batches the process's resident memory is read from Linux: all of
it, its own part (anonymous), and the pages of files that it has looked at.
"""

import argparse
import os
import platform
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy

from kd.datasets import fingerprint, open_dataset
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.runs import Store
from kd.training.loop import train

CLASSES, HELD_OUT, CHUNK = 4, 2000, 1000
MOST = 150  # megabytes for all that training takes: the model, its gradients, compiled kernels
PARTS = {"VmRSS": "resident", "RssAnon": "own", "RssFile": "of files"}


def resident() -> dict[str, float]:
    """Resident megabytes of this process, by kind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines)
    return {PARTS[name]: int(value.split()[0]) * 1024 / 1e6 for name, value in pairs if name in PARTS}


def write_set(path: Path, counts: dict[str, int], size: int) -> None:
    """Write noise as a MedMNIST file: `counts` images per split."""
    draw = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for part, count in counts.items():
            with archive.open(f"{part}_images.npy", "w", force_zip64=True) as file:
                npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False,
                                                  "shape": (count, size, size, 3)})
                for start in range(0, count, CHUNK):
                    file.write(draw.bytes(min(CHUNK, count - start) * size * size * 3))
            with archive.open(f"{part}_labels.npy", "w") as file:
                npy.write_array(file, np.arange(count) % CLASSES)


@dataclass
class Watch:
    """Peak memory of each kind in every epoch, and its seconds; a `should_stop` that is called between batches."""

    steps: int
    calls: int = 0
    peaks: list[dict[str, float]] = field(default_factory=list)
    began: list[float] = field(default_factory=list)

    def __call__(self) -> bool:
        if self.calls % self.steps == 0:
            self.peaks.append({})
            self.began.append(time.perf_counter())
        self.calls += 1
        last = self.peaks[-1]
        last.update({name: max(value, last.get(name, 0)) for name, value in resident().items()})
        return False


def rows(count: int, size: int, epochs: int, batch: int, root: Path) -> Iterator[tuple[str, dict[str, float], float]]:
    """(moment, megabytes by kind, images/s where any) from before the set is opened to the end of training."""
    path, store = root / "noise.npz", Store(Paths(root))
    write_set(path, {"train": count, "val": HELD_OUT, "test": HELD_OUT}, size)
    yield "before", resident(), 0
    began = time.perf_counter()
    open_dataset(str(path), size, store.paths)
    yield "decoded", resident(), (count + 2 * HELD_OUT) / (time.perf_counter() - began)
    spec = RunSpec(data=str(path), data_fingerprint=fingerprint(str(path), store.paths), image_size=size, depth=2,
                   width=4, epochs=epochs, batch_size=batch, device="cpu", threads=torch.get_num_threads())
    watch = Watch(count // batch)
    train(store.create(spec), store, watch)
    ends = [*watch.began[1:], time.perf_counter()]
    for number, (peak, start, end) in enumerate(zip(watch.peaks, watch.began, ends, strict=True), start=1):
        yield f"epoch {number}", peak, count / (end - start)
    yield "tested", resident(), 0


def main(arguments: Sequence[str] | None = None) -> list[tuple[str, dict[str, float], float]]:
    """Measure as the command line says, print, and return the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="training images (default 100000)")
    parser.add_argument("--size", type=int, default=64, help="their side in pixels (default 64)")
    parser.add_argument("--epochs", type=int, default=3, help="at least 2 (default 3)")
    parser.add_argument("--batch", type=int, default=100, help="images a step (default 100)")
    args = parser.parse_args(arguments)
    found = []
    print(f"{'megabytes':<12}" + "".join(f"{name:>12}" for name in PARTS.values()) + f"{'images/s':>12}")
    with tempfile.TemporaryDirectory() as root:
        for moment, memory, speed in rows(args.count, args.size, args.epochs, args.batch, Path(root)):
            found.append((moment, memory, speed))
            print(f"{moment:<12}" + "".join(f"{memory[name]:>12.0f}" for name in PARTS.values())
                  + (f"{speed:>12.0f}" if speed else ""), flush=True)
    print(verdict(found, args.count * args.size**2 * 3 / 1e6))
    return found


def verdict(found: Sequence[tuple[str, dict[str, float], float]], whole: float) -> str:
    """Claim, whether this run confirms it, and the machine."""
    memory = {moment: megabytes["resident"] for moment, megabytes, _ in found}
    grown = max(most for moment, most in memory.items() if moment.startswith("epoch")) - memory["decoded"]
    said = "reached" if grown <= MOST else "MISSED"
    return (f"{said}: training on {whole:.0f} MB of pictures takes at most {MOST} MB more than before: {grown:.0f}.\n"
            f"The most of each epoch; cpu, {torch.get_num_threads()} threads of {os.cpu_count()} cores; "
            f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}.")


if __name__ == "__main__":
    main()
