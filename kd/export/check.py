"""Agreement of an exported file with torch, on images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.base import Split
from kd.datasets.tensors import read_images, to_tensor
from kd.errors import UsageError
from kd.export.program import Program

BATCHES = (1, 2, 5)
TOLERANCE = 1e-4  # of an output's largest value; float32 kernels of another engine differ by some 1e-6
Session = Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]]
"""Outputs by name for images [B, 3, S, S] in 0..1."""


@dataclass(frozen=True)
class Deviation:
    """Greatest difference from torch, as a share of the output's largest value, for a batch of so many images. output:
    where it is."""

    batch: int
    greatest: float
    output: str


def check_images(split: Split, count: int) -> NDArray[np.float32]:
    """The first test images [count, 3, S, S] in 0..1, from the start again where there are fewer."""
    index = np.arange(count) % len(split)
    return to_tensor(read_images(split.images, index), "cpu").contiguous().numpy()


def drawn_images(size: int, count: int) -> NDArray[np.float32]:
    """Images of noise [count, 3, size, size] in 0..1, for a check without a data set."""
    return np.random.default_rng(0).random((count, 3, size, size), np.float32)


def deviations(made: Program, session: Session, images: NDArray[np.float32],
               batches: Sequence[int] = BATCHES) -> tuple[Deviation, ...]:
    """Deviations of a file from the program that it was made of, for batches of several sizes."""
    return tuple(_deviation(made, session, images[:size]) for size in batches)


def require_equal(found: Sequence[Deviation]) -> None:
    """Raise UsageError where an exported file does not compute what torch does."""
    worst = max(found, key=lambda one: one.greatest)
    if worst.greatest > TOLERANCE:
        raise UsageError(f"The exported file is not what torch computes: {worst.output} differs by "
                         f"{100 * worst.greatest:.2g} % of its largest value for a batch of {worst.batch}, so it was "
                         "not kept. Export as safetensors or torch.")


def _deviation(made: Program, session: Session, images: NDArray[np.float32]) -> Deviation:
    with torch.no_grad():
        expected = dict(zip(made.outputs, made(torch.from_numpy(images)), strict=True))
    found = session(images)
    shares = {name: _share(found[name], values.numpy()) for name, values in expected.items()}
    output = max(shares, key=lambda name: shares[name])
    return Deviation(len(images), shares[output], output)


def _share(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    share = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))
    return share if np.isfinite(share) else np.inf  # NaN would be no greater than any limit
