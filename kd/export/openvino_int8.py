"""Quantised students by OpenVINO and NNCF: another 8-bit form of an ONNX file, where both are installed.

Weights per output channel and activations by the ranges that training images cause, as in `kd.export.int8`, with NNCF's
correction of the biases and its own choice of what stays in float32.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.base import Dataset, Split
from kd.export.int8 import batches, calibration, outputs
from kd.export.map_agreement import Agreement, agreement
from kd.export.report import OPENVINO
from kd.models.eight_bit import CLASS_MAPS, LOGITS
from kd.models.onnx_session import IMAGES, OnnxSession
from kd.openvino_runtime import nncf, openvino
from kd.timing import Timing, measure_in_turn, summarise

REPEATS, WARMUP = 51, 5  # of the timed forward passes of one image


@dataclass(frozen=True)
class OpenVinoReport:
    """An 8-bit form by OpenVINO: its test accuracy, the bytes of both files, the time of one image's forward pass
    (onnxruntime: that of the float32 ONNX file, measured in turn with it), and, beside float32, the share of test
    images on which both predict the same class, and the agreement of class maps; None where there are none."""

    accuracy: float
    bytes: int
    timing: Timing
    onnxruntime: Timing
    same_class: float
    maps: Agreement | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def available() -> bool:
    """Whether NNCF is installed; OpenVINO always is."""
    return nncf() is not None


def quantise(source: Path, train: Split, path: Path) -> None:
    """Write an ONNX file's 8-bit form as OpenVINO's pair of files: `path`, whose name ends in .xml, and the weights
    beside it in .bin. train: of whose images the ranges of activations are taken."""
    ov, batches = openvino(), list(calibration(train))
    with _quiet(), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = nncf().quantize(ov.Core().read_model(source), nncf().Dataset(batches), subset_size=len(batches))
        written = Path(folder) / path.name
        ov.save_model(made, str(written), compress_to_fp16=False)
        for suffix in (".bin", ".xml"):  # the weights first
            shutil.move(written.with_suffix(suffix), path.with_suffix(suffix))


def measure(float32: Path, int8: Path, data: Dataset) -> OpenVinoReport:
    """Both files of a model, the float32 ONNX file and the pair at `int8`, on the test images."""
    threads = torch.get_num_threads()
    sessions = OnnxSession(float32, threads), OpenVinoSession(int8, threads)
    one, other = (outputs(session, data.test) for session in sessions)
    image = next(batches(data.test, np.zeros(1, np.int64)))
    times = [summarise(taken, WARMUP) for taken in measure_in_turn(
        [partial(session, image) for session in sessions], REPEATS, WARMUP)]
    predicted, answered = one[LOGITS].argmax(1), other[LOGITS].argmax(1)
    maps, pick = None, np.arange(len(predicted))
    if CLASS_MAPS in one:
        maps, _ = agreement(other[CLASS_MAPS][pick, predicted], one[CLASS_MAPS][pick, predicted], data.test.names,
                            data.test.groups)
    written = sum(int8.with_name(name).stat().st_size for name in OPENVINO)
    return OpenVinoReport(float((answered == data.test.labels).mean()), written, times[1], times[0],
                          float((answered == predicted).mean()), maps)


class OpenVinoSession:
    """The function of a pair of files or of an ONNX file, as `kd.models.onnx_session.OnnxSession` is by onnxruntime.
    threads: 0 for OpenVINO's own choice."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}  # not bfloat16, where the processor has it
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = openvino().Core().compile_model(str(path), "CPU", settings)
        self.outputs = tuple(one.any_name for one in self._compiled.outputs)

    def __call__(self, images: NDArray[np.float32], wanted: Sequence[str] = ()) -> dict[str, NDArray[np.float32]]:
        """Outputs by name, by default all, for images [B, 3, S, S] in 0..1; all are computed."""
        found = {output.any_name: value for output, value in self._compiled({IMAGES: images}).items()}
        return {name: found[name] for name in wanted or self.outputs}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without NNCF's progress bars and the advice that it logs."""
    console, before = import_module("rich").get_console(), logging.root.manager.disable
    quiet, console.quiet = console.quiet, True
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        console.quiet = quiet
        logging.disable(before)
