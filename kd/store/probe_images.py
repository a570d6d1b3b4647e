"""Tracked images: one fixed validation image per class, with its stage maps and mask after every epoch.

They are in the run's folder `probes/`. Read without torch, so that pages can.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.store.files import read_npz, write_bytes
from kd.store.runs import Run


def store_images(run: Run, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Store the first validation image of each class with the run, and return them [P, S, S, 3]."""
    pick = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    _save(run.path / "probes" / "images.npz", images=images[pick], labels=labels[pick])
    return np.asarray(images[pick])


def store_fill(run: Run, fill: NDArray[np.uint8]) -> None:
    """Store the mask fill of the tracked images [P, S, S, 3]."""
    _save(run.path / "probes" / "fill.npz", fill=fill)


def store_maps(run: Run, epoch: int, maps: Iterable[NDArray[np.floating]],
               mask: NDArray[np.floating] | None = None) -> None:
    """Store the stage maps [P, H_i, W_i] of one epoch, and a masked student's masks [P, S, S] in 0..1, in half
    precision."""
    stages = {f"stage_{number:02d}": stage.astype(np.float16) for number, stage in enumerate(maps)}
    masks = {} if mask is None else {"mask": mask.astype(np.float16)}
    _save(run.path / "probes" / f"{epoch:04d}.npz", **stages, **masks)


def load_images(run: Run) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """The tracked images [P, S, S, 3] and their labels [P], or None before training began."""
    stored = read_npz(run.path / "probes" / "images.npz")
    return (stored["images"], stored["labels"]) if stored else None


def load_fill(run: Run) -> NDArray[np.uint8] | None:
    """The mask fill of the tracked images [P, S, S, 3]; None for a student without a mask network."""
    stored = read_npz(run.path / "probes" / "fill.npz")
    return stored["fill"] if stored else None


def latest_maps(run: Run) -> tuple[int, list[NDArray[np.float16]]] | None:
    """The newest (epoch, stage maps [P, H_i, W_i] of every stage), or None before the first epoch."""
    files = _epochs(run)
    stored = read_npz(files[-1]) if files else None
    if stored is None:
        return None
    return int(files[-1].stem), [stored[name] for name in sorted(stored) if name.startswith("stage_")]


def recorded_epochs(run: Run) -> list[int]:
    """Epochs, counted from 0, with stored maps, in order."""
    return [int(path.stem) for path in _epochs(run)]


def load_masks(run: Run, epoch: int | None = None) -> NDArray[np.float16] | None:
    """The masks [P, S, S] of all tracked images after an epoch (None: the newest); None where there are none."""
    if epoch is None:
        if not (found := recorded_epochs(run)):
            return None
        epoch = found[-1]
    stored = read_npz(run.path / "probes" / f"{epoch:04d}.npz")
    return stored.get("mask") if stored else None


def spread(epochs: Sequence[int], most: int) -> list[int]:
    """At most `most` of these epochs, evenly spaced, with the first and the last among them."""
    if len(epochs) <= most:
        return list(epochs)
    return [epochs[at] for at in np.linspace(0, len(epochs) - 1, most).round().astype(int)]


def maps_over_epochs(run: Run, number: int, most: int | None = None) -> list[tuple[int, NDArray[np.float16]]]:
    """Masks of one tracked image over training: (epoch, mask [S, S]) of every epoch, or of `most` evenly spaced."""
    found = recorded_epochs(run)
    if most is not None:
        found = spread(found, most)
    return [(epoch, mask[number]) for epoch in found if (mask := load_masks(run, epoch)) is not None]


def masked_images(image: NDArray[np.uint8], fill: NDArray[np.uint8], mask: NDArray[np.floating]) -> NDArray[np.uint8]:
    """An image [S, S, 3] under a mask [S, S]: the image where it is 1, the fill where it is 0."""
    shown = mask.astype(np.float32)[..., None]
    return (shown * image + (1 - shown) * fill + 0.5).astype(np.uint8)


def scaled(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """A map [H, W] scaled to 0..1 by its own range, like `kd.explainers.scale`, in numpy; zeros for a blank map."""
    exact = values.astype(np.float32)
    low, high = exact.min(), exact.max()
    if not high - low > 1e-3 * max(abs(low), abs(high)):  # the maps are stored in half precision; also false for nan
        return np.zeros_like(exact)
    return (exact - low) / (high - low)


def _epochs(run: Run) -> list[Path]:
    return sorted((run.path / "probes").glob("[0-9]*.npz"))


def _save(path: Path, **arrays: Any) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # a mask is mostly 0 and 1
    write_bytes(path, buffer.getvalue())
