"""Quantised students: an ONNX file in 8-bit integers, and whether it still looks at the same place.

Weights are quantised per output channel and activations statically, by the ranges that training images cause (Nagel
2021, arXiv 2106.08295). Accuracy alone says too little: a network can keep it while its class maps move.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from kd.datasets.base import Split
from kd.datasets.tensors import read_images, to_tensor
from kd.export.check import Session
from kd.export.program import CLASS_MAPS, IMAGES, LOGITS
from kd.metrics.map_similarity import spearman
from kd.store.files import atomic_write
from kd.timing import Timing, measure_in_turn, summarise

CALIBRATION = 128  # training images
BATCH = 32
REPEATS = 51  # of the timed forward passes of one image
WORST = 5  # images that are named
LOW = 0.05  # quantile of the agreement that stands beside its mean


@dataclass(frozen=True)
class Arm:
    """A file's test accuracy, its size in bytes, and the time of one image's forward pass with all outputs."""

    accuracy: float
    bytes: int
    timing: Timing


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of two class maps of every test image, that of the class which float32 predicts: mean, 5 %
    quantile, and (name, value) of the worst images. images: with maps that are not constant."""

    mean: float
    low: float
    worst: tuple[tuple[str, float], ...]
    images: int


@dataclass(frozen=True)
class Int8Report:
    """An 8-bit file beside the float32 one. maps: agreement of their class maps, None where there are none.
    same_class: share of the test images on which both predict the same class."""

    float32: Arm
    int8: Arm
    same_class: float
    maps: Agreement | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def quantise(source: Path, train: Split, path: Path) -> None:
    """Write a float32 file's 8-bit form. train: of whose images the ranges of activations are taken."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        simplified = Path(folder) / "simplified.onnx"
        quant_pre_process(str(source), str(simplified), skip_symbolic_shape=True)
        with atomic_write(path) as part:
            quantize_static(str(simplified), str(part), _Calibration(train), quant_format=QuantFormat.QDQ,
                            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


class _Calibration(CalibrationDataReader):
    """Training images, evenly over the split, in batches."""

    def __init__(self, train: Split) -> None:
        index = np.unique(np.linspace(0, len(train) - 1, min(CALIBRATION, len(train))).astype(np.int64))
        self.batches = _batches(train, index)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch, or None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {IMAGES: batch}


def _batches(split: Split, index: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(index), BATCH):
        yield to_tensor(read_images(split.images, index[start:start + BATCH]), "cpu").contiguous().numpy()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that onnxruntime logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def report(float32: Session, int8: Session, files: tuple[Path, Path], test: Split) -> Int8Report:
    """Both files on the test images, and their times in turn."""
    one, other = (outputs(session, test) for session in (float32, int8))
    image = next(_batches(test, np.zeros(1, np.int64)))
    times = measure_in_turn([lambda: float32(image), lambda: int8(image)], REPEATS, warmup=5)
    arms = [Arm(float((found[LOGITS].argmax(1) == test.labels).mean()), file.stat().st_size, summarise(seconds, 5))
            for found, file, seconds in zip((one, other), files, times, strict=True)]
    predicted = one[LOGITS].argmax(1)
    same = float((other[LOGITS].argmax(1) == predicted).mean())
    maps = agreement(one[CLASS_MAPS], other[CLASS_MAPS], predicted, test.names) if CLASS_MAPS in one else None
    return Int8Report(arms[0], arms[1], same, maps)


def outputs(session: Session, split: Split) -> dict[str, NDArray[np.float32]]:
    """Logits [N, K] and class maps [N, K, H, W] of a whole split, where there are any."""
    parts = [session(batch) for batch in _batches(split, np.arange(len(split)))]
    return {name: np.concatenate([part[name] for part in parts]) for name in (LOGITS, CLASS_MAPS) if name in parts[0]}


def agreement(one: NDArray[np.float32], other: NDArray[np.float32], classes: NDArray[np.int64],
              names: tuple[str, ...]) -> Agreement | None:
    """Agreement of class maps [N, K, H, W], those of `classes` [N]; None where all maps are constant."""
    pick = np.arange(len(classes))
    values = spearman(one[pick, classes], other[pick, classes])
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return None
    worst = known[np.argsort(values[known])][:WORST]
    return Agreement(float(values[known].mean()), float(np.quantile(values[known], LOW)),
                     tuple((names[index], float(values[index])) for index in worst), len(known))
