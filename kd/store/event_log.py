"""Files to which one JSON object a line is appended; each look at one reads only what is new, whoever looks.

Pages poll the events of runs, eight viewers eight times as often, and must not parse a long run's whole past for it.
"""

import json
import threading
from pathlib import Path
from typing import Any, NamedTuple

MOST = 256  # files that are remembered


class _Read(NamedTuple):
    """What has been read of a file.

    seen: its (bytes, time of change), both because a clock may stand still between two lines. last: the last whole
    line, which tells a file that was written anew.
    """

    seen: tuple[int, int] = (-1, 0)
    size: int = 0
    last: bytes = b""
    events: tuple[dict[str, Any], ...] = ()


_known: dict[Path, _Read] = {}
_lock = threading.Lock()


def read(path: Path) -> list[dict[str, Any]]:
    """The events of a file, objects with an `event`, oldest first; other lines, and one half written, are passed over.

    The objects are shared with later readers: not to be changed.
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
