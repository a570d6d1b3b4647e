"""Export of a finished run: its files, checked, with a model card and an example."""

import io
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.base import Dataset
from kd.errors import Stopped, UsageError, unknown
from kd.evaluation import predict
from kd.export import card
from kd.export.check import BATCHES, Deviation, Session, check_images, deviations, drawn_images, require_equal
from kd.export.program import Program, grids, program
from kd.export.report import FILES, FORMATS, INT8, ONNX, OPENVINO, REPORT, folder_of
from kd.models.onnx_session import OnnxSession
from kd.progress import ProgressCallback, no_progress
from kd.store.eight_bit import MAPS, form_of
from kd.store.files import atomic_write, write_bytes, write_json
from kd.store.runs import FINISHED, Run, Store
from kd.version import VERSION

TEXTS = ("README.md", "example.py")  # model card and example


@dataclass(frozen=True)
class Exported:
    """An export. folder: where its files are. seconds: of the model file. bytes: of it. checked: its deviations from
    torch; none for safetensors, which hold the run's own weights. checked_on: what images those are of. int8: what its
    8-bit form is worth."""

    folder: Path
    format: str
    file: str
    bytes: int
    seconds: float
    outputs: tuple[str, ...]
    checked: tuple[Deviation, ...] = ()
    checked_on: str = ""
    int8: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "folder": str(self.folder)}


def export(store: Store, run: Run, format: str = ONNX, int8: bool = False, folder: str | None = None,
           progress: ProgressCallback = no_progress, should_stop: Callable[[], bool] = lambda: False) -> Exported:
    """Write a finished run's model to `folder`, by default `export/<format>` in the run's own, and check it.

    format: onnx, safetensors or torch (a program of torch.export). int8: also its 8-bit form, of onnx alone; in the
    run's own folder it counts as a student from then on (`kd.store.eight_bit`). An earlier export there is replaced
    once all is written and checked. Only onnx reads the data set. Raises UsageError where the run has not finished,
    where its data set has changed, where `folder` cannot be written to or has other texts of these names, and where the
    file does not compute what torch does; Stopped when `should_stop`, called between steps, returns True.
    """
    _require(run, format, int8)
    own = folder_of(run, format)
    target = _made(Path(folder)) if folder and Path(folder) != own else own
    data = None
    if format == ONNX:
        progress("reading the data", 0.0)
        data = predict.data_of(run, store)
    made = program(predict.load(run, len((run.summary or {})["classes"])))
    details = _details(run, made)

    def report(phase: str, share: float) -> None:
        if should_stop():
            raise Stopped
        progress(phase, share)

    report(f"writing {FILES[format]}", 0.1)
    with _new_set(target) as new:
        path, began = new / FILES[format], time.perf_counter()
        checked, checked_on = _write(run, data, made, details, path)
        found = Exported(target, format, path.name, path.stat().st_size, time.perf_counter() - began, made.outputs,
                         checked, checked_on)
        report("describing the file", 0.5)
        if int8:
            assert data is not None, "the 8-bit form is made of onnx"
            found = replace(found, int8=_int8(store, run, data, made, path, target == own, report))
        _describe(run, details, found, new)
    return found


@contextmanager
def _new_set(folder: Path) -> Iterator[Path]:
    """A folder for new files. At the end of the block these replace those of an earlier export; an error, or a kill,
    leaves that as it was, or a folder without a report."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as name:
        new = Path(name)
        yield new
        earlier, report = folder / REPORT, new / REPORT
        if earlier.exists():
            for name in (INT8, *OPENVINO):  # perhaps of another run
                (folder / name).unlink(missing_ok=True)
        earlier.unlink(missing_ok=True)
        for path in sorted(new.iterdir(), key=lambda path: path == report):  # the report last
            path.replace(folder / path.name)


def _made(folder: Path) -> Path:
    """A folder that somebody chose for an export. Raises UsageError where nothing can be written there, and where a
    text that is not of an export would be lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            others = [] if (folder / REPORT).exists() else [name for name in TEXTS if (folder / name).exists()]
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        raise UsageError(f"The export cannot be written to {folder} ({getattr(error, 'strerror', error)}). Choose "
                         "another folder.") from error
    if others:
        raise UsageError(f"{folder} has its own {' and '.join(others)}, which the export would replace. Choose a new "
                         "folder.")
    return folder


def _require(run: Run, format: str, int8: bool) -> None:
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if int8 and format != ONNX:
        raise UsageError(f"The 8-bit form is an ONNX file, and the format is {format}. Take onnx.")
    if run.status != FINISHED:
        raise UsageError(f"{run.id} is {run.status}, not finished. Wait for its end, or resume it.")


def _details(run: Run, made: Program) -> dict[str, Any]:
    """What somebody who has the file alone must know."""
    spec, summary = run.spec, run.summary or {}
    return {"program": f"KD Lens {VERSION}", "run": run.id, "model": spec.model_label,
            "data": summary.get("data", {}).get("name", spec.data), "classes": list(summary["classes"]),
            "image_size": spec.image_size,
            "images": "RGB, float32 in 0..1, [batch, 3, side, side]; scaling is part of the model",
            "outputs": list(made.outputs), "stages": grids(made.model, spec.image_size),
            "accuracy": (run.evaluation or {}).get("accuracy"), "use": "not for clinical use"}


def _write(run: Run, data: Dataset | None, made: Program, details: dict[str, Any],
           path: Path) -> tuple[tuple[Deviation, ...], str]:
    """The model's file, and, where another engine or program computes it, its deviations and of what images."""
    if path.suffix == ".safetensors":
        with atomic_write(path) as part:
            shutil.copyfile(run.weights, part)
        return (), ""
    session = _onnx(made, details, path) if path.suffix == ".onnx" else _torch(made, details, path)
    count = max(BATCHES)
    images = check_images(data.test, count) if data else drawn_images(details["image_size"], count)
    checked = deviations(made, session, images)
    require_equal(checked)
    return checked, "test images" if data else "images of noise"


def _onnx(made: Program, details: dict[str, Any], path: Path) -> Session:
    from kd.export import onnx_file

    onnx_file.write(made, details["image_size"], details, path)
    return OnnxSession(path)


def _torch(made: Program, details: dict[str, Any], path: Path) -> Session:
    size = details["image_size"]
    found = torch.export.export(made, (torch.rand(2, 3, size, size),),
                                dynamic_shapes=({0: torch.export.Dim("batch")},))
    with atomic_write(path) as part, part.open("wb") as file:
        torch.export.save(found, file)
    loaded = torch.export.load(path).module()

    def session(images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        with torch.no_grad():
            return {name: value.numpy() for name, value in zip(made.outputs, loaded(torch.from_numpy(images)),
                                                               strict=True)}

    return session


def _int8(store: Store, run: Run, data: Dataset, made: Program, path: Path, kept: bool,
          report: ProgressCallback) -> dict[str, Any]:
    """Write the 8-bit form beside a file and measure it. kept: whether as a student of its own."""
    from kd.export import int8, int8_report

    small = path.with_name(INT8)
    report("quantising", 0.5)
    int8.quantise(path, data.train, small)
    found = int8_report.measure(made, (path, small), data, int8_report.teacher_maps(store, run, data.classes),
                                lambda share: report("answers and class maps of all test images", 0.6 + 0.3 * share))
    if kept:
        form = form_of(run)
        form.discard()
        predict.record(form, found.logits, data.test)
        buffer = io.BytesIO()
        arrays: dict[str, Any] = found.worst  # Any, or savez's own keywords confuse the type checker
        np.savez_compressed(buffer, **arrays)
        write_bytes(form.path / MAPS, buffer.getvalue())
        form.complete(found.report.weights)
    return {**found.report.to_json(), "openvino": _openvino(data, made, path, report)}


def _openvino(data: Dataset, made: Program, path: Path, report: ProgressCallback) -> dict[str, Any] | None:
    """Write OpenVINO's 8-bit form beside a file and measure it; `reason` alone where it computes something else in
    float32 already, None where NNCF is not installed."""
    from kd.export import openvino_int8

    if not openvino_int8.available():
        return None
    report("quantising by OpenVINO", 0.9)
    count = max(BATCHES)
    float32 = deviations(made, openvino_int8.OpenVinoSession(path), check_images(data.test, count), [count])
    try:
        require_equal(float32)
    except UsageError:
        return {"reason": f"OpenVINO does not compute in float32 what torch does ({float32[0].output})"}
    small = path.with_name(OPENVINO[0])
    openvino_int8.quantise(path, data.train, small)
    return openvino_int8.measure(path, small, data).to_json()


def _describe(run: Run, details: dict[str, Any], found: Exported, folder: Path) -> None:
    """Model card, example and report beside the file."""
    texts = (card.text(run, details, found), card.example(run.spec, details, found))
    for name, text in zip(TEXTS, texts, strict=True):
        write_bytes(folder / name, text.encode(errors="replace"))
    write_json(folder / REPORT, {**details, **found.to_json()})
