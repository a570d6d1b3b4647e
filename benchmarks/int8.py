"""What 8-bit integers cost a student: accuracy, size, time, and whether its class maps stay where they were.

A row is a finished student's float32 and 8-bit form (`kd export --int8`), as means over runs with the same settings and
other seeds. Agreement: rank correlation of the class maps of the class that float32 predicts, mean and 5 % quantile
over test images; beside it that of either form with the teacher's Grad-CAM for the same class. Milliseconds: of one
image, medians, on one machine in turn; torch: the model itself in float32. By OpenVINO: its 8-bit form by NNCF, where
both are installed.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any

import torch

from benchmarks.maps_runs import opened_store, table
from kd.export.int8_report import PAIRS
from kd.export.report import ONNX, by_openvino
from kd.export.run import export
from kd.store.runs import Run, Store

HEADER = ("student", "runs", "accuracy, float32, %", "int8, %", "MB, float32", "int8",
          "agreement with float32, mean (5 %)", "float32 with teacher", "int8 with teacher", "ms, torch", "onnxruntime",
          "int8", "by OpenVINO: accuracy, %", "agreement with float32", "ms")


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
            *(f"{1000 * average(name):.2f}" for name in ("torch", "onnx", "int8 ms")), *_by_openvino(found, average))


def _by_openvino(found: Sequence[dict[str, Any]], average: Callable[[str], float]) -> tuple[str, ...]:
    if any("openvino" not in one for one in found):
        return ("–",) * 3
    return (f"{100 * average('openvino'):.1f}", f"{average('openvino agreement'):.3f} ({average('openvino low'):.3f})",
            f"{1000 * average('openvino ms'):.2f}")


def measured(run: Run, store: Store) -> dict[str, float]:
    """The numbers of one run."""
    report = export(store, run, ONNX, int8=True).int8 or {}
    own, theirs, both = (report["maps"][pair] for pair in PAIRS)
    return {"float32": report["float32"]["accuracy"], "int8": report["int8"]["accuracy"],
            "bytes": report["float32"]["bytes"], "int8 bytes": report["int8"]["bytes"],
            "agreement": own["mean"], "low": own["low"], "teacher": theirs["mean"], "int8 with teacher": both["mean"],
            "torch": report["torch"]["median"], "onnx": report["float32"]["timing"]["median"],
            "int8 ms": report["int8"]["timing"]["median"], **_of_openvino(by_openvino(report))}


def _of_openvino(found: dict[str, Any] | None) -> dict[str, float]:
    if not found:
        return {}
    return {"openvino": found["accuracy"], "openvino agreement": found["maps"]["mean"],
            "openvino low": found["maps"]["low"], "openvino ms": found["timing"]["median"]}


if __name__ == "__main__":
    main()
