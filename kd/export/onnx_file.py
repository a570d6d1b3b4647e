"""ONNX files: made by torch's exporter, opened by onnxruntime."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from kd.export.check import Session
from kd.export.program import IMAGES, Program
from kd.store.files import atomic_write

DETAILS = "kd_lens"  # key of the metadata


def write(made: Program, size: int, details: Mapping[str, Any], path: Path) -> None:
    """Write a program as ONNX: images [batch, 3, size, size] in 0..1, any batch, outputs by name. details: kept in the
    file's metadata as JSON."""
    images = torch.rand(2, 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, on its own deprecated parts
        exported: Any = torch.onnx.export(made, (images,), dynamo=True, verbose=False, input_names=[IMAGES],
                                          output_names=list(made.outputs),
                                          dynamic_shapes=({0: torch.export.Dim("batch")},))
    model = exported.model_proto
    onnx.helper.set_model_props(model, {DETAILS: json.dumps(dict(details))})
    with atomic_write(path) as part:
        onnx.save(model, part)


def details(path: Path) -> dict[str, Any]:
    """The details that `write` kept in a file."""
    props = {one.key: one.value for one in onnx.load(path, load_external_data=False).metadata_props}
    found: dict[str, Any] = json.loads(props[DETAILS])
    return found


def session(path: Path, threads: int = 0) -> Session:
    """A file's function on the processor. threads: 0 for onnxruntime's own choice."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    opened = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in opened.get_outputs()]

    def run(images: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        return dict(zip(names, opened.run(None, {IMAGES: images}), strict=True))

    return run
