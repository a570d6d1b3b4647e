"""Exports of every kind of model beside torch: deviation, seconds, size, and times of one image.

A row is a model at one image size, with random weights: `kd export`'s ONNX file and its 8-bit form, calibrated on a
phantom. Deviation: greatest difference of any output from torch, as a share of the output's largest value, over batches
of 1, 2 and 5. Milliseconds: of one image with all outputs, medians, on one thread in turn. `--methods` trains a student
by each method for one epoch on a phantom instead, and exports that.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.maps_runs import table
from kd.datasets import Dataset, open_dataset
from kd.evaluation import predict
from kd.experiments.plan import DistillSpec, plan_first_seed
from kd.export import int8, onnx_file
from kd.export.check import Session, check_images, deviations
from kd.export.program import Program, program
from kd.jobs.queue import execute
from kd.methods import METHODS
from kd.models import build
from kd.models.onnx_session import OnnxSession
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.runs import Store
from kd.timing import measure_in_turn, summarise

DATA = "phantom-brain:count=120"
REPEATS = 51
SIZES = (64, 96)
KINDS = {
    "plain, 5 stages": RunSpec(depth=5, width=16),
    "first stages of MobileNetV2": RunSpec(model="truncated", base="mobilenetv2_100", depth=3),
    "first stages, smaller input": RunSpec(model="truncated", base="mobilenetv2_100", depth=3, input_size=48),
    "resnet18": RunSpec(model="resnet18"), "mobilenetv2_100": RunSpec(model="mobilenetv2_100"),
    "densenet121": RunSpec(model="densenet121"), "convnext_atto": RunSpec(model="convnext_atto"),
    "channels last (mambaout)": RunSpec(model="test_mambaout"),
    "explained, mean fill": RunSpec(depth=5, width=16, mask_net_depth=2, mask_net_width=8, mask_area=0.2),
    "explained, blurred fill": RunSpec(depth=5, width=16, mask_net_depth=2, mask_net_width=8, mask_area=0.2,
                                       mask_fill="blur")}
EXPLAINER = {"mask_net_depth": 1, "mask_net_width": 4, "mask_area": 0.25, "mask_target": "sensitivity"}
HEADER = ("model", "image size", "outputs", "greatest deviation", "export, s", "MB", "8 bits, MB", "ms, torch",
          "onnxruntime", "8 bits")


def main() -> None:
    """The table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", action="store_true", help="A student of each method, instead of each kind.")
    torch.set_num_threads(1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder))
        rows = of_methods(paths) if chosen.methods else of_kinds(paths)
        print(*table(HEADER, []), sep="\n")
        for cells in rows:
            print(f"| {' | '.join(cells)} |", flush=True)


def of_kinds(paths: Paths) -> Iterator[tuple[str, ...]]:
    """A row for each kind of model and image size."""
    for size in SIZES:
        data = open_dataset(DATA, size, paths)
        for name, spec in KINDS.items():
            torch.manual_seed(0)
            yield (name, str(size), *row(program(build(replace(spec, image_size=size), len(data.classes))), data))


def of_methods(paths: Paths) -> Iterator[tuple[str, ...]]:
    """A row for the student of each method."""
    store = Store(paths)
    for method in (name for name in METHODS if name != "supervised"):
        explainer = EXPLAINER if METHODS[method].needs_mask_net else {}
        request = DistillSpec(data=DATA, teacher="test_resnet", method=method, depth=3, width=8, epochs=1,
                              image_size=64, **explainer)
        runs = plan_first_seed(request, store).runs
        for run in runs:
            if (status := execute(run, store)) != "finished":
                raise RuntimeError(f"{run.id} is {status}: {run.failure_reason}")
        student, data = runs[-1], open_dataset(DATA, 64, paths)
        yield (method, "64", *row(program(predict.load(student, len(data.classes))), data))


def row(made: Program, data: Dataset) -> tuple[str, ...]:
    """The cells of one model, after its name and size."""
    images = check_images(data.test, 5)
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        began = time.perf_counter()
        onnx_file.write(made, images.shape[-1], {}, path)
        seconds = time.perf_counter() - began
        int8.quantise(path, data.train, small)
        sessions = [OnnxSession(one, 1) for one in (path, small)]
        worst = max(one.greatest for one in deviations(made, sessions[0], images))
        times = milliseconds(made, sessions, images[:1])
        sizes = [one.stat().st_size / 1e6 for one in (path, small)]
    return (str(len(made.outputs)), f"{worst:.1e}", f"{seconds:.1f}", *(f"{size:.2f}" for size in sizes),
            *(f"{one:.2f}" for one in times))


def milliseconds(made: Program, sessions: Sequence[Session], image: NDArray[np.float32]) -> list[float]:
    """Medians of torch and of each session, in turn."""
    calls: list[Callable[[], object]] = [partial(_torch, made, image), *(partial(one, image) for one in sessions)]
    return [1000 * summarise(part).median for part in measure_in_turn(calls, REPEATS, warmup=5)]


def _torch(made: Program, image: NDArray[np.float32]) -> None:
    with torch.inference_mode():
        made(torch.from_numpy(image))


if __name__ == "__main__":
    main()
