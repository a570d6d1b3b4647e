"""Append-only event logs, one JSON object a line; a repeated read parses only the new lines.

Pages poll the events of runs, eight viewers eight times as often, and must not parse all of a long run's log each time.
"""

import json
import threading
from pathlib import Path
from typing import Any, NamedTuple

MOST = 256  # files whose parsed events are kept in memory


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
    """Events of a file, objects with an `event`, oldest first; other lines, and a half-written one, are skipped.

    The objects are shared with later readers and must not be changed.
    """
    with _lock:
        try:
            found = _grown(path, _known.pop(path, _Read()))
        except FileNotFoundError:
            return []
        _known[path] = found
        if len(_known) > MOST:
            del _known[next(iter(_known))]
        return list(found.events)


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
    events = (event for event in map(_parse, lines) if event is not None)
    return _Read(seen, known.size + sum(map(len, lines)), lines[-1], (*known.events, *events))


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "event" in value else None
