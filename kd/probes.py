"""One fixed validation image per class, watched through training: its stage maps after every epoch.

Only files and numpy here, so a page can read them without torch.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.datasets.base import Split
from kd.runs import Run, write_bytes


def store_images(run: Run, val: Split) -> NDArray[np.uint8]:
    """Pick the first validation image of each class, keep them with the run, and return them [P, S, S, 3]."""
    pick = [int(np.flatnonzero(val.labels == label)[0]) for label in np.unique(val.labels)]
    _save(run.path / "probes" / "images.npz", images=val.images[pick], labels=val.labels[pick])
    return np.asarray(val.images[pick])


def store_maps(run: Run, epoch: int, maps: Iterable[NDArray[np.floating]]) -> None:
    """Keep the stage maps [P, H_i, W_i] of one epoch, in half precision."""
    _save(run.path / "probes" / f"{epoch:04d}.npz",
          **{f"stage_{number:02d}": stage.astype(np.float16) for number, stage in enumerate(maps)})


def images(run: Run) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """The probe images [P, S, S, 3] and their labels [P], or None before training began."""
    path = run.path / "probes" / "images.npz"
    if not path.exists():
        return None
    with np.load(path) as stored:
        return stored["images"], stored["labels"]


def latest(run: Run) -> tuple[int, list[NDArray[np.float16]]] | None:
    """The newest (epoch, stage maps [P, H_i, W_i] of every stage), or None before the first epoch."""
    files = sorted((run.path / "probes").glob("[0-9]*.npz"))
    if not files:
        return None
    with np.load(files[-1]) as stored:
        return int(files[-1].stem), [stored[name] for name in sorted(stored.files)]


def scaled(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """A map [H, W] in 0..1 by its own range, as `kd.explainers.scale` does it with torch; zeros where it is blank."""
    exact = values.astype(np.float32)
    low, high = exact.min(), exact.max()
    if not high - low > 1e-3 * max(abs(low), abs(high)):  # the maps are kept in half precision; also false for nan
        return np.zeros_like(exact)
    return (exact - low) / (high - low)


def _save(path: Path, **arrays: Any) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())
