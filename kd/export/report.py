"""Where a run's exports are, and what is known of them; read without torch."""

import json
from pathlib import Path
from typing import Any

from kd.errors import UsageError
from kd.spec import RunSpec
from kd.store.runs import Run

ONNX, SAFETENSORS, TORCH = FORMATS = ("onnx", "safetensors", "torch")
FILES = {ONNX: "model.onnx", SAFETENSORS: "weights.safetensors", TORCH: "model.pt2"}
INT8, REPORT = "model.int8.onnx", "export.json"
TIMM_LINES = '''import timm
from safetensors.torch import load_file

net = timm.create_model("{model}", num_classes={count})
net.load_state_dict(load_file("{file}"))'''


def folder_of(run: Run, format: str) -> Path:
    """Where an export of a run lies, unless another folder is asked for."""
    return run.path / "export" / format


def load(folder: Path) -> dict[str, Any]:
    """What is known of an export. Raises UsageError where there is none, or it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((folder / REPORT).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"There is no export in {folder}. Export the run once more.") from error
    return found


def timm_lines(spec: RunSpec, classes: int, file: str = "weights.safetensors") -> str:
    """Python lines that load a run's weights into plain timm; empty for a model that is no whole timm network."""
    if spec.model in ("plain", "truncated") or spec.mask_net_depth:
        return ""
    return TIMM_LINES.format(model=spec.model, count=classes, file=file)
