"""ONNX files in 8-bit integers.

Weights are quantised per output channel and activations statically, by the ranges that training images cause (Nagel
2021, arXiv 2106.08295).
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from kd.datasets.base import Split
from kd.datasets.tensors import read_images, to_tensor
from kd.export.check import Session
from kd.models.eight_bit import CLASS_MAPS, LOGITS
from kd.models.onnx_session import IMAGES
from kd.progress import ShareCallback, no_share
from kd.store.files import atomic_write

CALIBRATION = 128  # training images
BATCH = 32


def quantise(source: Path, train: Split, path: Path) -> None:
    """Write a float32 file's 8-bit form. train: of whose images the ranges of activations are taken."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        simplified = Path(folder) / "simplified.onnx"
        quant_pre_process(str(source), str(simplified), skip_symbolic_shape=True)
        with atomic_write(path) as part:
            quantize_static(str(simplified), str(part), _Calibration(train), quant_format=QuantFormat.QDQ,
                            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                            nodes_to_exclude=before_convolutions(onnx.load(simplified)))


def before_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes between the images and the first convolutions, which scale and downsample the images: rounded
    to 8 bits they would cost accuracy, and save next to nothing."""
    reached, names = {IMAGES}, []
    for node in model.graph.node:  # in the order of computation
        if node.op_type != "Conv" and reached.intersection(node.input):
            reached.update(node.output)
            names.append(node.name)
    return names


class _Calibration(CalibrationDataReader):
    """The batches of `calibration`, as onnxruntime asks for them."""

    def __init__(self, train: Split) -> None:
        self.batches = calibration(train)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch, or None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {IMAGES: batch}


def calibration(train: Split) -> Iterator[NDArray[np.float32]]:
    """Training images, evenly over the split, in batches: those by which ranges of activations are found."""
    index = np.unique(np.linspace(0, len(train) - 1, min(CALIBRATION, len(train))).astype(np.int64))
    return batches(train, index)


def batches(split: Split, index: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.float32]]:
    """Images [B, 3, S, S] in 0..1 of a split, by default all of them."""
    index = np.arange(len(split)) if index is None else index
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


def outputs(session: Session, split: Split, progress: ShareCallback = no_share) -> dict[str, NDArray[np.float32]]:
    """Logits [N, K] and class maps [N, K, H, W] of a whole split, where there are any. progress: may raise to stop."""
    parts = []
    for number, batch in enumerate(batches(split), 1):
        found = session(batch)
        parts.append({name: found[name] for name in (LOGITS, CLASS_MAPS) if name in found})
        progress(min(1.0, number * BATCH / len(split)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
