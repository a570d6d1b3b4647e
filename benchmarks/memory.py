"""Memory of a training on a large data set: `python -m benchmarks.memory [--count N] [--frozen]`.

Random images are written as a MedMNIST file to a temporary folder, decoded to the memory-mapped cache, and trained on
by `kd.training.loop` with a tiny student; with `--frozen` by a tiny residual network of which all but the last stage is
frozen, so that its features are kept on disk. Between all batches the process's resident memory is read from Linux: all
of it, its own part (anonymous), and the pages of files that it has looked at.

100,000 images of 224 px take 15 GB once as a file and once decoded, and their features 8 GB.
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
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy

from kd.datasets import fingerprint, open_dataset
from kd.models import build, weights
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.runs import Store
from kd.training.frozen_features import FrozenFeatures
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


def frozen_model(root: Path, size: int) -> dict[str, Any]:
    """Settings of a model of which all but the last stage is frozen; its weights are random."""
    about = {"model": "test_resnet", "image_size": size}
    weights.save(build(RunSpec(**about), CLASSES), root / "start.safetensors")
    return {**about, "pretrained": str(root / "start.safetensors"), "frozen_stages": 4, "views": 1}


def rows(count: int, size: int, epochs: int, batch: int, root: Path,
         frozen: bool = False) -> Iterator[tuple[str, dict[str, float], float]]:
    """(moment, megabytes by kind, images/s where any) from before the set is opened to the end of training."""
    path, store = root / "noise.npz", Store(Paths(root))
    write_set(path, {"train": count, "val": HELD_OUT, "test": HELD_OUT}, size)
    yield "before", resident(), 0
    began = time.perf_counter()
    open_dataset(str(path), size, store.paths)
    yield "decoded", resident(), (count + 2 * HELD_OUT) / (time.perf_counter() - began)
    model = frozen_model(root, size) if frozen else {"depth": 2, "width": 4, "image_size": size}
    spec = RunSpec(**{**model, "data": str(path), "data_fingerprint": fingerprint(str(path), store.paths),
                      "epochs": epochs, "batch_size": batch, "device": "cpu", "threads": torch.get_num_threads()})
    watch = Watch(count // batch)
    run = store.create(spec)
    train(run, store, watch)
    if frozen and (reason := (run.last_event(FrozenFeatures.event) or {})["disabled"]):
        raise RuntimeError(f"The features were not kept: {reason}")
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
    parser.add_argument("--frozen", action="store_true", help="keep the features of frozen stages")
    args = parser.parse_args(arguments)
    found = []
    print(f"{'megabytes':<12}" + "".join(f"{name:>12}" for name in PARTS.values()) + f"{'images/s':>12}")
    with tempfile.TemporaryDirectory() as root:
        for moment, memory, speed in rows(args.count, args.size, args.epochs, args.batch, Path(root),
                                           args.frozen):
            found.append((moment, memory, speed))
            print(f"{moment:<12}" + "".join(f"{memory[name]:>12.0f}" for name in PARTS.values())
                  + (f"{speed:>12.0f}" if speed else ""), flush=True)
    print(verdict(found, args.count * args.size**2 * 3 / 1e6, args.size <= 64 and not args.frozen))
    return found


def verdict(found: Sequence[tuple[str, dict[str, float], float]], whole: float, plain: bool = True) -> str:
    """Claims, whether this run confirms them, and the machine. plain: whether the student is tiny and its images are
    small; a batch of others takes more by itself."""
    memory = {moment: megabytes["resident"] for moment, megabytes, _ in found}
    more = max(most for moment, most in memory.items() if moment.startswith("epoch")) - memory["decoded"]
    own = [megabytes["own"] for moment, megabytes, _ in found if moment.startswith("epoch")]
    claims = [(f"own memory grows by at most {MOST} MB from the first epoch to the last", own[-1] - own[0])]
    if plain:
        claims.append((f"training on {whole:.0f} MB of pictures takes at most {MOST} MB more than before", more))
    lines = [f"{'reached' if value <= MOST else 'MISSED'}: {claim}: {value:.0f}." for claim, value in claims]
    return "\n".join([*lines, f"The most of each epoch; {whole:.0f} MB of pictures took {more:.0f} MB more than "
                      f"before; cpu, {torch.get_num_threads()} threads of {os.cpu_count()} cores; "
                      f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}."])


if __name__ == "__main__":
    main()
