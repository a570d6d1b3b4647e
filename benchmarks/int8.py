"""What 8-bit integers cost a student: accuracy, size, time, and whether its class maps stay where they were.

A row is a finished student's float32 and 8-bit form (`kd export --int8`), as means over runs with the same settings and
other seeds. Agreement: rank correlation of the class maps of the class that float32 predicts, mean and 5 % quantile
over test images; beside it that of either form with the teacher's Grad-CAM for the same class. Milliseconds: of one
image, medians, on one machine in turn; torch: the model itself in float32.
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import mean
from typing import Any

import numpy as np
import torch

from benchmarks.maps_runs import opened_store, table
from kd.datasets.tensors import read_images, to_tensor
from kd.evaluation import predict
from kd.export import int8, onnx_file
from kd.export.check import check_images
from kd.export.program import CLASS_MAPS, LOGITS, program
from kd.export.report import ONNX
from kd.export.run import export
from kd.metrics.map_similarity import Maps, spearman, to_grid
from kd.models.placement import placements, placements_of
from kd.store.runs import Run, Store
from kd.timing import measure_in_turn, summarise

HEADER = ("student", "runs", "accuracy, float32, %", "int8, %", "MB, float32", "int8",
          "agreement with float32, mean (5 %)", "float32 with teacher", "int8 with teacher", "ms, torch", "onnxruntime",
          "int8")


def main() -> None:
    """The table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="Finished students, by run id.")
    parser.add_argument("--root", help="Where checkpoints/ and data/ lie.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = opened_store(options)
    for line in lines([store[name] for name in options.runs], store):
        print(line, flush=True)


def lines(runs: Sequence[Run], store: Store) -> Iterator[str]:
    """The table's lines: a row for runs that differ in their seeds alone."""
    yield from table(HEADER, [])
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        label = f"{run.spec.data.rstrip('/').rpartition('/')[2]}, {run.spec.model_label}"
        groups.setdefault(label, []).append(measured(run, store))
    for label, found in groups.items():
        yield f"| {label} | {len(found)} | {' | '.join(row(found))} |"


def row(found: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Means over the runs."""
    def average(name: str) -> float:
        return mean(one[name] for one in found)

    return (*(f"{100 * average(name):.1f}" for name in ("float32", "int8")),
            *(f"{average(name) / 1e6:.2f}" for name in ("bytes", "int8 bytes")),
            f"{average('agreement'):.3f} ({average('low'):.3f})",
            *(f"{average(name):.3f}" for name in ("teacher", "int8 with teacher")),
            *(f"{1000 * average(name):.2f}" for name in ("torch", "onnx", "int8 ms")))


def measured(run: Run, store: Store) -> dict[str, float]:
    """The numbers of one run."""
    exported = export(store, run, ONNX, int8=True)
    report = exported.int8 or {}
    data = predict.data_of(run, store)
    sessions = [onnx_file.session(exported.folder / name, 1) for name in ("model.onnx", "model.int8.onnx")]
    one, other = (int8.outputs(session, data.test) for session in sessions)
    model, image = program(predict.load(run, len(data.classes))), check_images(data.test, 1)
    asked = [partial(_torch, model, image), *(partial(session, image) for session in sessions)]
    seconds = measure_in_turn(asked, int8.REPEATS, warmup=5)
    times = [summarise(part).median for part in seconds]
    classes, maps = one[LOGITS].argmax(1), report["maps"]
    teacher = teacher_maps(run, store, classes)
    return {"float32": report["float32"]["accuracy"], "int8": report["int8"]["accuracy"],
            "bytes": report["float32"]["bytes"], "int8 bytes": report["int8"]["bytes"],
            "agreement": maps["mean"], "low": maps["low"], "torch": times[0], "onnx": times[1], "int8 ms": times[2],
            "teacher": _with_teacher(run, one, classes, teacher),
            "int8 with teacher": _with_teacher(run, other, classes, teacher)}


def _torch(model: torch.nn.Module, image: np.ndarray) -> None:
    with torch.inference_mode():
        model(torch.from_numpy(image))


def teacher_maps(run: Run, store: Store, classes: np.ndarray) -> tuple[Maps, Any]:
    """The teacher's class maps [N, H, W] of these classes of the test images, and where their cells lie."""
    data, teacher = predict.data_of(run, store), store[run.spec.teacher]
    model = predict.load(teacher, len(data.classes))
    parts = []
    for start in range(0, len(data.test), int8.BATCH):
        chosen = np.arange(start, min(start + int8.BATCH, len(data.test)))
        with torch.no_grad():
            cams = model(to_tensor(read_images(data.test.images, chosen), "cpu"), cams=True).cams
        parts.append(cams.numpy())
    maps = np.concatenate(parts)[np.arange(len(classes)), classes]
    return maps, placements(model, run.spec.image_size)[-1]


def _with_teacher(run: Run, found: dict[str, np.ndarray], classes: np.ndarray, teacher: tuple[Maps, Any]) -> float:
    """Mean rank correlation on the coarser of both grids; student maps are placed where their cells look."""
    own, (theirs, place) = found[CLASS_MAPS][np.arange(len(classes)), classes], teacher
    side = min(own.shape[-1], theirs.shape[-1])
    return float(np.nanmean(spearman(to_grid(own, side, side, placements_of(run.spec)[-1]),
                                     to_grid(theirs, side, side, place))))


if __name__ == "__main__":
    main()
