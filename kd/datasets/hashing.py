"""Content digests of files, cached so that a second digest takes a stat and not a read."""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from kd.store.files import write_bytes

# A file changed within this many nanoseconds before it was read may change again without its time stamp moving,
# so what was read is not remembered (git calls such entries racily clean).
_SETTLED = 2 * 10**9
_UNREADABLE = "unreadable "


def digest_files(files: Mapping[str, str | Path], memory: Path) -> dict[str, str]:
    """Digest of each file's bytes, by the same keys.

    `memory` is a JSON file of earlier answers: one is used while size, modification and change time are the same.
    A file that cannot be read gets a digest of the reason, so that the set changes when it becomes readable.
    """
    known, remembered, now = _load(memory), {}, time.time_ns()
    digests = {}
    for name, path in files.items():
        stamp, digest = _digest(path, known.get(name))
        digests[name] = digest
        if stamp and max(stamp[1:]) < now - _SETTLED:
            remembered[name] = [*stamp, digest]
    if remembered != known:
        _save(memory, remembered)
    return digests


def is_unreadable(digest: str) -> bool:
    """Whether a digest stands for a file that could not be read."""
    return digest.startswith(_UNREADABLE)


def digest_file(path: Path, folder: Path) -> str:
    """Digest of one file, remembered in `folder` under a name made of the path."""
    key = blake2b(os.fsencode(path), digest_size=12).hexdigest()
    return digest_files({"": path}, folder / f"{key}.json")[""]


def combine(parts: Mapping[str, str]) -> str:
    """One digest (32 hexadecimal digits) of named digests, whatever their order."""
    total = blake2b(digest_size=16)
    for name in sorted(parts):
        total.update(f"{len(name)},{len(parts[name])}:{name}{parts[name]}".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _digest(path: str | Path, known: list | None) -> tuple[list[int], str]:
    try:
        status = os.stat(path)
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        if known and known[:3] == stamp:
            return stamp, known[3]
        total = blake2b(digest_size=16)
        with open(path, "rb") as file:
            while block := file.read(2**20):
                total.update(block)
    except OSError as error:
        return [], f"{_UNREADABLE}{error.errno}"
    return stamp, total.hexdigest()


def _load(memory: Path) -> dict[str, list]:
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _save(memory: Path, remembered: dict[str, list]) -> None:
    """Forgetting costs only time, so a disk that is full or read-only is no reason to stop."""
    with contextlib.suppress(OSError):
        write_bytes(memory, json.dumps(remembered).encode())
