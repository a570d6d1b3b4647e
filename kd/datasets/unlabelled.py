"""Folders of images without labels."""

from collections.abc import Callable
from pathlib import Path

from kd.datasets import DataRef, cache, locate
from kd.datasets.base import Source, Split
from kd.datasets.image_folder.folder import open_unlabelled_folder
from kd.datasets.image_folder.zip_archive import open_unlabelled_archive
from kd.errors import UsageError
from kd.paths import Paths
from kd.progress import ProgressCallback, no_progress
from kd.spec import REST


def inspect_unlabelled(reference: str, paths: Paths) -> DataRef:
    """What a folder or zip of unlabelled images holds now, without decoding it. Raises UsageError."""
    source = _source(reference, paths)
    return DataRef(str(_place(reference, paths)), source.fingerprint, (), source.total)


def open_unlabelled(reference: str, fingerprint: str, size: int, paths: Paths,
                    progress: ProgressCallback = no_progress) -> Split:
    """The images of a folder or zip at a working size, in one split with labels that mean nothing.

    fingerprint: what it had when it was inspected. It may also lie below `paths.data` by the same name, where the
    store was moved. Raises UsageError when it is not there, or has changed.
    """
    moved = paths.data / Path(reference).name
    gone = fingerprint and not locate(reference.strip(), paths) and moved.exists()
    source = _source(str(moved) if gone else reference, paths)
    if fingerprint not in ("", source.fingerprint):
        raise UsageError(f"The unlabelled images in {reference} have changed since this run was planned. Start a new "
                         "run, or put the old content back.")
    return cache.open_cached(source, size, paths, progress).train


def _source(reference: str, paths: Paths) -> Source:
    path = _place(reference, paths)
    opened: Callable[[Path, Paths], Source] = open_unlabelled_folder if path.is_dir() else open_unlabelled_archive
    return opened(path, paths)


def _place(reference: str, paths: Paths) -> Path:
    text = locate(reference.strip(), paths)
    if not text or not (Path(text).is_dir() or text.lower().endswith(".zip")):
        raise UsageError(f"There are no unlabelled images at {reference!r}. Give the path of a folder of images or of "
                         f"a zip of one, {REST!r} for the training images that data_fraction leaves out, or 'none'.")
    return Path(text)
