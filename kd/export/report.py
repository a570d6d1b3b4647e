"""Where a run's exports are, and what is known of them; read without torch."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from kd.errors import UsageError
from kd.spec import RunSpec
from kd.store import eight_bit
from kd.store.runs import Run

ONNX, SAFETENSORS, TORCH = FORMATS = ("onnx", "safetensors", "torch")
FILES = {ONNX: "model.onnx", SAFETENSORS: "weights.safetensors", TORCH: "model.pt2"}
INT8, REPORT = eight_bit.FILE, eight_bit.REPORT
OPENVINO = ("model.int8.xml", "model.int8.bin")  # another 8-bit form, where NNCF is installed
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
    if found.get("int8") and "weights" not in found["int8"]:
        found["int8"] = None  # of an earlier version, with fewer figures
    return found


def exports(run: Run) -> list[dict[str, Any]]:
    """What is known of each export in a run's own folder, by format."""
    found = []
    for format in FORMATS:
        with suppress(UsageError):  # there is none, or it is damaged
            found.append(load(folder_of(run, format)))
    return found


def brief(run: Run) -> list[dict[str, Any]]:
    """A run's exports in short: format, file, bytes, greatest difference from torch (None where it is not compared) and
    what the 8-bit form is worth (None where there is none)."""
    return [{"format": one["format"], "file": str(folder_of(run, one["format"]) / one["file"]), "bytes": one["bytes"],
             "difference": max((each["greatest"] for each in one["checked"]), default=None),
             "int8": _int8(run, one["int8"])} for one in exports(run)]


def by_openvino(int8: dict[str, Any]) -> dict[str, Any] | None:
    """The figures of OpenVINO's 8-bit form beside an 8-bit form's; None where there is none, for whatever reason."""
    found: dict[str, Any] | None = int8.get("openvino")
    return None if found is None or "reason" in found else found


def _int8(run: Run, found: dict[str, Any] | None) -> dict[str, Any] | None:
    if not found:
        return None
    form = eight_bit.eight_bit_of(run)
    arms = {name: {"accuracy": found[name]["accuracy"], "bytes": found[name]["bytes"],
                   "ms": 1000 * found[name]["timing"]["median"]} for name in ("float32", "int8")}
    if other := by_openvino(found):
        arms["openvino"] = {"accuracy": other["accuracy"], "bytes": other["bytes"],
                            "ms": 1000 * other["timing"]["median"]}
    return {"run": form.id if form else None, **arms, "same_class": found["same_class"],
            "maps": {pair: {name: one[name] for name in ("mean", "low", "chance")} if one else None
                     for pair, one in found["maps"].items()}}


def timm_lines(spec: RunSpec, classes: int, file: str = "weights.safetensors") -> str:
    """Python lines that load a run's weights into plain timm; empty for a model that is no whole timm network."""
    if spec.model in ("plain", "truncated") or spec.mask_net_depth:
        return ""
    return TIMM_LINES.format(model=spec.model, count=classes, file=file)
