"""Cost of a sweep's cells with many workers: `python -m benchmarks.scale [--workers 1 2 4 8]`.

One teacher and a grid of its students (α × T, one seed) on a phantom. For each number of workers a store of its own
gets the finished teacher, and so many processes of one thread each train the students, as the workers of a Ray cluster
do.
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from benchmarks.distill import machine
from kd.datasets import fingerprint
from kd.jobs.ray_cluster import train_run
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.runs import FINISHED, Run, Store
from kd.training.teacher.cache import DIRECTORY, EVENT

ALPHAS, TEMPERATURES = (0.1, 0.4, 0.7, 0.9), (2.0, 4.0)
PARTS = ("reading", "waiting", "teacher", "student", "other")
COLUMNS = (*PARTS, "total", "processor")
SAID = ("reading: opening the data set, images with their augmentation, kept rows; waiting: for rows that others "
         "compute; other: building models, validation, saving, test")


@dataclass(frozen=True)
class Cell:
    """Seconds of a student's training by what they went to, and of the processor. rows: that its teacher computed."""

    reading: float
    waiting: float
    teacher: float
    student: float
    other: float
    processor: float
    rows: int
    needed: int

    @property
    def total(self) -> float:
        return float(sum(getattr(self, name) for name in PARTS))

    @classmethod
    def of(cls, run: Run, total: float, processor: float) -> "Cell":
        """Of a finished run, by what it logged. total: seconds of all. processor: of these."""
        events = {event["event"]: event for event in run.events()}
        spent, usage = events["seconds"], events[EVENT]
        part = {"rows": 0.0, "waiting": 0.0, "loading": 0.0, "computing": 0.0, **spent[EVENT]}
        reading = events["data"]["time"] - events["started"]["time"] + spent["images"] + part["rows"]
        teacher = part["loading"] + part["computing"]
        other = total - reading - part["waiting"] - teacher - spent["steps"]
        return cls(reading, part["waiting"], teacher, spent["steps"], other, processor,
                   usage["computed"], usage["hits"] + usage["misses"])


@dataclass(frozen=True)
class Found:
    """Result with so many workers. wall: seconds of the whole sweep, without starting the processes."""

    workers: int
    wall: float
    cells: tuple[Cell, ...]

    @property
    def computed(self) -> float:
        """Rows that the teacher computed by those needed, each once for all cells."""
        return sum(cell.rows for cell in self.cells) / max(cell.needed for cell in self.cells)

    def line(self) -> str:
        """One line of the table."""
        means = [mean(getattr(cell, name) for cell in self.cells) for name in COLUMNS]
        return (f"{self.workers:<9}" + "".join(f"{value:>10.2f}" for value in (*means, self.wall))
                + f"{self.computed:>18.2f}")


def measure(workers: int, specs: Sequence[RunSpec], teacher: Run) -> Found:
    """Train the students of a teacher by so many processes, from nothing cached but the decoded images."""
    with tempfile.TemporaryDirectory() as root:
        store = Store(Paths(Path(root)))
        shutil.copytree(teacher.path, store.path / teacher.id, ignore=shutil.ignore_patterns(DIRECTORY))
        shutil.copytree(teacher.path.parents[1] / "data", Path(root) / "data")
        runs = [store.create(spec) for spec in specs]
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            list(pool.map(_ready, range(workers)))
            began = time.perf_counter()
            spent = list(pool.map(_train, [root] * len(runs), [run.id for run in runs]))
            wall = time.perf_counter() - began
        if unfinished := [run for run in runs if run.status != FINISHED]:
            raise RuntimeError(f"{unfinished[0].id} {unfinished[0].status}. {unfinished[0].failure_reason}")
        return Found(workers, wall, tuple((Cell.of(run, *one) for run, one in zip(runs, spent, strict=True))))


def _ready(_number: int) -> None:
    """Nothing, once a worker has imported what it needs; long enough that each worker does it."""
    import sklearn.metrics  # noqa: F401

    import kd.training.loop
    from kd.openvino_runtime import openvino

    openvino()
    assert kd.training.loop
    time.sleep(1)


def _train(root: str, run_id: str) -> tuple[float, float]:
    """Seconds of training a run: by the clock, and of the processor."""
    began = time.perf_counter(), time.process_time()
    train_run(root, run_id, 1)
    return time.perf_counter() - began[0], time.process_time() - began[1]


def students(teacher: Run, views: int, epochs: int, cells: int) -> list[RunSpec]:
    """The first so many cells of the grid."""
    grid = [{"alpha": alpha, "temperature": temperature} for alpha in ALPHAS for temperature in TEMPERATURES]
    about = teacher.spec
    return [RunSpec(data=about.data, data_fingerprint=about.data_fingerprint, image_size=about.image_size, method="kd",
                    teacher=teacher.id, epochs=epochs, views=views, batch_size=about.batch_size, threads=1,
                    device="cpu", method_args=args) for args in grid[:cells]]


def main(arguments: Sequence[str] | None = None) -> list[Found]:
    """Measure as the command line says, print, and return the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workers", nargs="+", type=int, default=(1, 2, 4, 8), help="numbers of processes")
    parser.add_argument("--cells", type=int, default=8, help="students, at most 8 (default)")
    parser.add_argument("--teacher", default="resnet18", metavar="NAME", help="timm's name (default resnet18)")
    parser.add_argument("--count", type=int, default=400, help="images of the phantom (default 400)")
    parser.add_argument("--size", type=int, default=64, help="their side in pixels (default 64)")
    parser.add_argument("--views", type=int, default=4, help="views of each image (default 4)")
    parser.add_argument("--epochs", type=int, default=8, help="of each student (default 8)")
    args = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"  # of every process that is started here
    found = []
    with tempfile.TemporaryDirectory() as root:
        store = Store(Paths(Path(root)))
        data = f"phantom-brain:count={args.count}"
        teacher = store.create(RunSpec(data=data, data_fingerprint=fingerprint(data, store.paths), model=args.teacher,
                                       image_size=args.size, epochs=1, batch_size=32, threads=1, device="cpu"))
        train_run(root, teacher.id, 1)
        specs = students(teacher, args.views, args.epochs, args.cells)
        print(f"{len(specs)} students of {args.teacher}, {args.count} images of {args.size} px, {args.views} views, "
              f"{args.epochs} epochs; mean seconds of a cell, and of the sweep", flush=True)
        print(f"{'workers':<9}" + "".join(f"{name:>10}" for name in (*COLUMNS, "sweep")) + f"{'computed ÷ needed':>18}")
        for workers in args.workers:
            found.append(measure(workers, specs, teacher))
            print(found[-1].line(), flush=True)
    cores = os.cpu_count() or 1
    print(SAID + ".")
    if max(args.workers) > cores:
        print(f"This machine has {cores} cores: {max(args.workers)} workers share them, and take turns.")
    print(machine())
    return found


if __name__ == "__main__":
    main()
