"""Uploaded data sets: stored under a safe name, and only if they can be opened."""

import hashlib
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from kd import datasets
from kd.errors import UsageError
from kd.paths import Paths
from kd.store.files import write_bytes

ENDINGS = (".zip", ".npz")
_ZIP_MAGIC = b"PK"  # an .npz is a zip as well
_TRIAL_SIZE = 32  # pixels: reads every image once, cheaply


def safe_name(name: str, content: bytes) -> str:
    """Safe file name for an upload: letters, digits, `_` and `-`, a digest of the content, and a known ending.

    Raises UsageError for another ending. Equal content under an equal name is the same file.
    """
    bare = PurePosixPath(PureWindowsPath(name).name)
    ending = bare.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f"{bare.name!r} is neither a .zip nor an .npz. Pack the class folders as a zip.")
    stem = re.sub(r"[^a-z0-9_]+", "-", bare.stem.lower()).strip("-_")[:40] or "upload"
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}{ending}"


def keep(name: str, content: bytes, paths: Paths) -> Path:
    """Save an upload in `places.data` and return its path. Raises UsageError, and keeps nothing, when it is no set."""
    path = paths.data / safe_name(name, content)
    if not content.startswith(_ZIP_MAGIC):
        raise UsageError(f"{path.suffix} files begin otherwise: this one is damaged or of another kind. "
                         "Pack it again.")
    known = path.exists()
    write_bytes(path, content)
    try:
        datasets.open_dataset(str(path), _TRIAL_SIZE, paths)
    except BaseException:
        if not known:
            path.unlink(missing_ok=True)
        raise
    return path
