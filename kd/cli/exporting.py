"""The verbs that write what is taken away of a run: `export`, `report` and `pack`."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.cli.run_here import Result, compute_here
from kd.evaluation.eight_bit import PAIRS
from kd.export import report as exports
from kd.jobs.tasks import task
from kd.reporting import bundle
from kd.reporting.files import TASK, report_path, reportable
from kd.store.eight_bit import run_or_form
from kd.store.runs import Store


def export(args: Namespace, store: Store) -> Result:
    """A run's model as a file that runs without this program."""
    run = store[args.run]
    folder = Path(args.out).resolve() if args.out else exports.folder_of(run, args.format)
    compute_here(task(run, "export"), store, {"format": args.format, "int8": args.int8, "folder": str(folder)})
    found = exports.load(folder)
    return found if args.json else _table(found)


def report(args: Namespace, store: Store) -> Result:
    """A student's distillation as one HTML file."""
    run = reportable(store, run_or_form(store, args.run))
    path = Path(args.out).resolve() if args.out else report_path(run)
    compute_here(task(run, TASK), store, {"file": str(path)})
    return {"report": str(path)}


def pack(args: Namespace, store: Store) -> Result:
    """Everything of a run as a zip."""
    run = store[args.run]
    file = bundle.pack(run, Path(args.out or f"{run.id}.zip").resolve())
    return {"zip": str(file), "bytes": file.stat().st_size}


def _table(found: Mapping[str, Any]) -> Result:
    worst = {f"difference from torch, batch of {one['batch']}": f"{one['greatest']:.1e}" for one in found["checked"]}
    rows = {"folder": found["folder"], "file": found["file"], "bytes": f"{found['bytes']:,}",
            "seconds": f"{found['seconds']:.1f}", "outputs": ", ".join(found["outputs"]), **worst}
    return rows | (_quantised(found["int8"]) if found["int8"] else {})


def _quantised(int8: Mapping[str, Any]) -> Result:
    rows = {f"{name}, {what}": text for name in ("float32", "int8") for what, text in (
        ("accuracy", f"{100 * int8[name]['accuracy']:.1f} %"), ("bytes", f"{int8[name]['bytes']:,}"),
        ("ms an image", f"{1000 * int8[name]['timing']['median']:.2f}"))}
    rows["torch, ms an image"] = f"{1000 * int8['torch']['median']:.2f}"
    rows["same class"] = f"{100 * int8['same_class']:.1f} %"
    for pair, one in int8["maps"].items():
        if one:
            chance = "" if one["chance"] is None else f", of different images {one['chance']:.3f}"
            rows[f"class maps, {PAIRS[pair]}"] = f"{one['mean']:.3f} (5 % quantile {one['low']:.3f}{chance})"
    if maps := int8["maps"]["int8_float32"]:
        rows["least agreement"] = ", ".join(f"{name} {value:.2f}" for name, value in maps["worst"])
    other = exports.by_openvino(dict(int8))
    return rows | (_by_openvino(other) if other else {"int8 by OpenVINO": int8["openvino"]["reason"]}
                   if int8.get("openvino") else {})


def _by_openvino(found: Mapping[str, Any]) -> Result:
    rows = {"accuracy": f"{100 * found['accuracy']:.1f} %", "bytes": f"{found['bytes']:,}",
            "ms an image": f"{1000 * found['timing']['median']:.2f}",
            "same class": f"{100 * found['same_class']:.1f} %"}
    if maps := found["maps"]:
        rows["class maps with float32's"] = f"{maps['mean']:.3f} (5 % quantile {maps['low']:.3f})"
    return {f"int8 by OpenVINO, {name}": value for name, value in rows.items()}
