"""Append-only event logs, one JSON object a line; a repeated read parses only the new lines.

Pages poll the events of runs, eight viewers eight times as often, and must not parse all of a long run's log each time.
"""

import json
import threading
from pathlib import Path
from typing import Any, NamedTuple

from kd.store.schema import (
    COUNT,
    FLOAT,
    NUMBER,
    TEXT,
    TRUTH,
    WHOLE,
    list_of,
    object_of,
    optional,
    table_of,
)

MOST = 256  # files whose parsed events are kept in memory
NONE = object()  # stands for a line that is not JSON, since null is

# What the first epoch logs, and a summary repeats.
FIRST_EPOCH = {
    "start_loss": object_of({"loss": NUMBER, "chance": NUMBER}),
    "targets": object_of(dict.fromkeys(("temperature", "entropy", "entropy_t1", "share", "share_t1"), NUMBER)
                         | {"right": optional(NUMBER), "images": COUNT}),
    "initial_weights": object_of({}, {"notes": list_of(TEXT)})}
_USAGE = object_of({}, {**dict.fromkeys(("hits", "misses", "computed", "bytes", "kept", "missing", "taught"), COUNT),
                        "disabled": TEXT, "why": TEXT})
_EVENT = object_of({"event": TEXT, "time": NUMBER})
KINDS = {
    "epoch": object_of({"epoch": COUNT, "terms": table_of(NUMBER), "loss": NUMBER, "val_loss": FLOAT,
                        "val_accuracy": NUMBER, "val_macro_f1": NUMBER},
                       {**dict.fromkeys(("images_per_second", "seconds", "mask_area", "target_accuracy"), NUMBER),
                        "threads": list_of(WHOLE)}),
    "started": object_of({}, {"device": TEXT, "precision": TEXT, "threads": WHOLE}),
    "failed": object_of({}, {"reason": TEXT}),
    "data": object_of({}, {"classes": list_of(TEXT, least=1), "flip": TRUTH}),
    "engine": object_of({"part": TEXT}, dict.fromkeys(("engine", "version", "precision", "reason"), TEXT)),
    "teacher_cache": _USAGE, "frozen_features": _USAGE, **FIRST_EPOCH}


class _Read(NamedTuple):
    """Parsed part of a file.

    seen: its (bytes, time of change), both because the clock may not advance between two lines. last: the last whole
    line, by which a file that was rewritten is recognised.
    """

    seen: tuple[int, int] = (-1, 0)
    size: int = 0
    last: bytes = b""
    events: tuple[dict[str, Any], ...] = ()


_known: dict[Path, _Read] = {}
_lock = threading.Lock()


def read(path: Path) -> list[dict[str, Any]]:
    """Events of a file, oldest first; other lines, and a half-written one, are skipped.

    The objects are shared with later readers and must not be changed.
    """
    with _lock:
        try:
            found = _grown(path, _known.pop(path, _Read()))
        except OSError:  # not there; or unreadable, which `fault` says
            return []
        _known[path] = found
        if len(_known) > MOST:
            del _known[next(iter(_known))]
        return list(found.events)


def fault(path: Path) -> str:
    """The first line that is JSON but no event, and why; empty where there is none. Other lines, which a kill or a loss
    of power leaves behind, are no fault unless nothing else is there. Raises OSError where it cannot be read."""
    lines = path.read_bytes().splitlines()
    values = [(number, value) for number, line in enumerate(lines, 1) if (value := _value(line)) is not NONE]
    if lines and not values:
        return "holds no event"
    return next((f"line {number}: {text}" for number, value in values if (text := _wrong(value))), "")


def _grown(path: Path, known: _Read) -> _Read:
    stat = path.stat()
    seen = (stat.st_size, stat.st_mtime_ns)
    if seen == known.seen:
        return known
    with path.open("rb") as file:
        file.seek(known.size - len(known.last))
        if file.read(len(known.last)) != known.last:
            known = _Read()
            file.seek(0)
        new = file.read()
    lines = new[:new.rfind(b"\n") + 1].splitlines(keepends=True)
    if not lines:
        return known._replace(seen=seen)
    events = (value for value in map(_value, lines) if value is not NONE and not _wrong(value))
    return _Read(seen, known.size + sum(map(len, lines)), lines[-1], (*known.events, *events))


def _value(line: bytes) -> Any:
    """The value of a line; NONE where it is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return NONE


def _wrong(value: Any) -> str:
    """What is wrong with an event; empty where nothing is."""
    if text := _EVENT.wrong(value):
        return text
    kind = KINDS.get(value["event"])
    return kind.wrong(value) if kind else ""
