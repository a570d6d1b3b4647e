"""What the files of a run must hold, and their only readers: what cannot be used is named, never raised.

Everything that shows a run reads its files through `kd.store.runs.Run`, which reads them here.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from kd.errors import UsageError
from kd.spec import RunSpec
from kd.store import event_log
from kd.store.files import read_npz
from kd.store.schema import (
    COUNT,
    NUMBER,
    POSITIVE,
    TEXT,
    TRUTH,
    WHOLE,
    Kind,
    list_of,
    object_of,
    optional,
    table_of,
)

SPEC, SUMMARY, EVALUATION, PREDICTIONS, EVENTS, PROGRESS = (
    "spec.json", "summary.json", "evaluation.json", "predictions.npz", "events.jsonl", "progress.json")
REWRITTEN = (EVALUATION, PREDICTIONS)  # that an evaluation writes anew, from the weights

_MASK = object_of({}, {**dict.fromkeys(("area", "area_sd", "alike", "fill_only", "majority"), optional(NUMBER)),
                       "collapsed": TEXT, "leak": TEXT})
_DATA = object_of({}, {"flip": TRUTH, "counts": table_of(list_of(COUNT)), "classes": list_of(TEXT)})
_ENTRIES: dict[str, Kind] = {
    "data": _DATA, "val_loss": NUMBER, "images": table_of(COUNT), "precision": TEXT, "threads": list_of(WHOLE),
    "versions": table_of(TEXT), "mask": _MASK, **event_log.FIRST_EPOCH,
    "out_of_fold": object_of({"folds": WHOLE, "accuracy": NUMBER, "corrected": NUMBER})}
KINDS = {
    SUMMARY: object_of({"classes": list_of(TEXT, least=1), "accuracy": NUMBER, "macro_f1": NUMBER,
                        "best_epoch": optional(WHOLE), "val_macro_f1": NUMBER, "parameters": POSITIVE,
                        "flops": POSITIVE, "seconds": NUMBER}, _ENTRIES),
    EVALUATION: object_of({"images": COUNT}, {
        "accuracy": NUMBER, "macro_f1": NUMBER, "loss": NUMBER, "recall": list_of(optional(NUMBER)),
        "confusion": list_of(list_of(COUNT)), "ece": optional(NUMBER), "auroc": optional(NUMBER),
        "auroc_per_class": list_of(optional(NUMBER))}),
    PROGRESS: object_of({"phase": TEXT}, {**dict.fromkeys(("epoch", "step"), COUNT),
                                          **dict.fromkeys(("epochs", "steps"), COUNT), "share": NUMBER,
                                          **dict.fromkeys(("images_per_second", "seconds_left"), optional(NUMBER))}),
}


@dataclass(frozen=True)
class Content:
    """Content of a file. value: None where it is not there, or cannot be used. fault: why it cannot; else empty."""

    value: Any = None
    fault: str = ""


ABSENT = Content()


def read(path: Path) -> Content:
    """A JSON object of a run, checked by the kind of its name. It is shared with later readers and must not be changed.
    """
    return _cached(path, _object)


def read_spec(path: Path) -> Content:
    """The settings of a run, a `RunSpec`."""
    return _cached(path, _spec)


def predictions(path: Path) -> Content:
    """Test predictions: arrays by name, checked (`Content.value` is only read anew)."""
    return _arrays(path)


def fault(folder: Path, weights: Path) -> tuple[str, str]:
    """The first file of a run that cannot be used, and why; empty where all can.

    weights: the file that a finished run must have. Of a folder that is not there nothing is said.
    """
    found = {SPEC: read_spec(folder / SPEC), SUMMARY: read(folder / SUMMARY), EVALUATION: read(folder / EVALUATION),
             PREDICTIONS: _cached(folder / PREDICTIONS, _number_of_classes),
             EVENTS: _cached(folder / EVENTS, _checked_events)}
    if first := next(((name, content.fault) for name, content in found.items() if content.fault), None):
        return first
    if found[SPEC] == ABSENT and weights.parent == folder and any(found[name] != ABSENT for name in (SUMMARY, EVENTS)):
        return SPEC, "is missing"
    summary, tested = found[SUMMARY].value, found[PREDICTIONS].value
    if summary is None:
        return "", ""
    if weights.suffix == ".safetensors" and (wrong := _weights_fault(weights)) and folder.exists():
        return weights.name, wrong
    if tested is not None and tested != len(summary["classes"]):
        return PREDICTIONS, f"has logits of {tested} classes, and the run has {len(summary['classes'])}"
    return "", ""


def in_words(run_id: str, file: str, reason: str) -> str:
    """What is said of a run with a file that cannot be used; empty without a file."""
    again = f", or write it anew: python -m kd evaluate {run_id}" if file in REWRITTEN else ""
    return f"The run {run_id} is damaged: {file} {reason}. Delete that run and train it again{again}." if file else ""


def _cached(path: Path, reader: Any) -> Content:
    """What a reader makes of a file, read anew only after a change."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError as error:
        return Content(fault=f"cannot be read ({error.strerror})")
    return _read(path, reader, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16384)
def _read(path: Path, reader: Any, _changed: int, _size: int) -> Content:
    try:
        found: Content = reader(path)
        return found
    except FileNotFoundError:  # deleted meanwhile
        return ABSENT
    except OSError as error:
        return Content(fault=f"cannot be read ({error.strerror})")


def _object(path: Path) -> Content:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return Content(fault="is not valid JSON")
    fault = KINDS[path.name].wrong(value)
    return Content(fault=fault) if fault else Content(value)


def _spec(path: Path) -> Content:
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return Content(fault="is not valid JSON")
    try:
        return Content(RunSpec.from_json(values))
    except UsageError as error:  # of a newer version, say
        return Content(fault=f"cannot be used ({str(error).rstrip('.')})")
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError):
        return Content(fault="holds no settings")


def _checked_events(path: Path) -> Content:
    return Content(fault=event_log.fault(path))


def _number_of_classes(path: Path) -> Content:
    """That of the predictions, whose arrays need not be kept."""
    found = _arrays(path)
    return found if found.value is None else Content(found.value["logits"].shape[1])


def _arrays(path: Path) -> Content:
    if not path.exists():
        return ABSENT
    stored = read_npz(path)
    if stored is None:
        return Content(fault="is not a whole .npz file of arrays")
    fault = _predictions_fault(stored)
    return Content(fault=fault) if fault else Content(stored)


def _predictions_fault(stored: dict[str, NDArray[Any]]) -> str:
    if missing := [name for name in ("logits", "labels", "names") if name not in stored]:
        return f"has no {missing[0]}"
    logits, labels, names, groups = (stored.get(name, np.array(())) for name in ("logits", "labels", "names", "groups"))
    if logits.ndim != 2 or logits.dtype.kind != "f" or not logits.size:
        return f"has logits of shape {logits.shape} and type {logits.dtype}"
    if labels.dtype.kind not in "iu" or names.dtype.kind != "U":
        return f"has labels of type {labels.dtype} and names of type {names.dtype}"
    if labels.shape != (len(logits),) or names.shape != (len(logits),) or groups.shape not in ((0,), labels.shape):
        return f"has {len(logits)} rows of logits, {len(labels)} labels and {len(names)} names"
    if not np.isfinite(logits).all():
        return "has logits that are not finite"
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        return f"has labels outside of the {logits.shape[1]} classes"
    return ""


def _weights_fault(path: Path) -> str:
    """What is wrong with a file of weights, as far as its header and its size say; empty where nothing is."""
    found = _cached(path, _header)
    return found.fault or ("" if found.value else "is missing")


def _header(path: Path) -> Content:
    try:
        with safe_open(path, framework="np"):
            return Content(True)
    except SafetensorError as error:
        return Content(fault=f"is not a whole safetensors file ({error})")
