"""Folders and files that a command is given to write to, checked before anything is computed."""

import os
from argparse import Namespace
from pathlib import Path

from kd.errors import UsageError

EXAMPLES = {"report": "report.html", "pack": "run.zip"}  # verbs whose --out is a file, with an example of its name


def require_places(args: Namespace) -> None:
    """Raise UsageError where `--out`, `--dicom` or `--csv` names a place that cannot be written to, or `--root` a file.
    """
    if args.root:
        _folder(Path(args.root), "--root")
    files = {name: place for name in ("out", "csv") if (place := getattr(args, name, None))}
    if "out" in files and args.verb not in EXAMPLES:
        _require_writable(Path(files.pop("out")), "--out")
    if maps := getattr(args, "dicom", None):
        _require_writable(Path(maps), "--dicom")
    for name, file in files.items():
        if Path(file).is_dir():
            raise UsageError(f"--{name} {file} is a folder. Name a file in it, such as "
                             f"{Path(file) / EXAMPLES.get(args.verb, 'table.csv')}.")
        _require_writable(Path(file).absolute().parent, f"--{name}")


def _folder(place: Path, flag: str) -> Path:
    """The folder, or where it does not exist yet the first one above it that does. Raises UsageError for a file."""
    there = next(one for one in (place.absolute(), *place.absolute().parents) if os.path.lexists(one))
    if not there.is_dir():
        raise UsageError(f"{flag}: {there} is a file, not a folder. Name a folder.")
    return there


def _require_writable(place: Path, flag: str) -> None:
    there = _folder(place, flag)
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{flag}: {there} cannot be written to. Name another folder, or change its permissions.")
