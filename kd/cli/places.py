"""Folders and files that a command is given to write to, checked before anything is computed."""

import os
from argparse import Namespace
from pathlib import Path

from kd.errors import UsageError


def require_places(args: Namespace) -> None:
    """Raise UsageError where `--out`, `--dicom` or `--csv` names a place that cannot be written to, or `--root` a file.
    """
    if args.root:
        _folder(Path(args.root), "--root")
    if out := getattr(args, "out", None):
        _require_writable(Path(out), "--out")
    if maps := getattr(args, "dicom", None):
        _require_writable(Path(maps), "--dicom")
    if table := getattr(args, "csv", None):
        if Path(table).is_dir():
            raise UsageError(f"--csv {table} is a folder. Name a file in it, such as {Path(table) / 'table.csv'}.")
        _require_writable(Path(table).absolute().parent, "--csv")


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
