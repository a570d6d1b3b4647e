"""ONNX files, made by torch's exporter."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch

from kd.export.program import Program
from kd.models.onnx_session import IMAGES
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
