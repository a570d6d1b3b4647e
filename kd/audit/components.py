"""Principal components of small images, computed in blocks: memory depends on pixels and components, not on images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024  # images that are floating-point numbers at once


@dataclass(frozen=True, eq=False)
class Components:
    """Directions [P, C] of the greatest spread of pixels [P] that were scaled by their mean and spread."""

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    directions: NDArray[np.float32]

    def of(self, pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The components [len(rows), C] of these of the images [N, P]."""
        found = np.empty((len(rows), self.directions.shape[1]), np.float32)
        for number, block in enumerate(_blocks(pixels, rows)):
            start = number * BLOCK
            found[start:start + BLOCK] = self.scaled(block) @ self.directions
        return found

    def scaled(self, block: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels [B, P] by their mean and spread."""
        found: NDArray[np.float32] = (block.astype(np.float32) - self.mean) / self.spread
        return found


def components(pixels: NDArray[np.uint8], fit: NDArray[np.int64], most: int) -> Components:
    """The first components of images [N, P], at most `most` and at least one. fit: the rows that the mean, the spread
    and the directions come from. No label is used, so a classifier's test images may be among them."""
    unturned = Components(*_moments(pixels, fit), np.zeros((0, 0), np.float32))
    return Components(unturned.mean, unturned.spread, _directions(pixels, fit, most, unturned))


def _moments(pixels: NDArray[np.uint8], fit: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each pixel; 1 for one that is always the same."""
    total, squares = np.zeros(pixels.shape[1]), np.zeros(pixels.shape[1])
    for block in _blocks(pixels, fit):
        values = block.astype(np.float64)
        total += values.sum(axis=0)
        squares += (values**2).sum(axis=0)
    mean = total / len(fit)
    spread = np.sqrt(np.maximum(squares / len(fit) - mean**2, 0.0))
    spread[spread < 1e-6] = 1.0
    return mean.astype(np.float32), spread.astype(np.float32)


def _directions(pixels: NDArray[np.uint8], fit: NDArray[np.int64], most: int, by: Components) -> NDArray[np.float32]:
    """Unit vectors [P, C]: eigenvectors of the scaled pixels' products, or of the images' where these are fewer."""
    if len(fit) < pixels.shape[1]:
        scaled = by.scaled(pixels[fit])
        values, vectors = _leading(scaled @ scaled.T, most)
        return scaled.T @ (vectors / np.sqrt(values)).astype(np.float32)
    products = np.zeros((pixels.shape[1], pixels.shape[1]), np.float32)
    for block in _blocks(pixels, fit):
        scaled = by.scaled(block)
        products += scaled.T @ scaled
    return _leading(products, most)[1].astype(np.float32)


def _leading(products: NDArray[np.float32], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The greatest eigenvalues that are not 0 but for rounding, and their vectors, the greatest first."""
    from scipy.linalg import eigh  # here, because it takes a while to load

    size = len(products)
    values, vectors = eigh(products.astype(np.float64), subset_by_index=(max(0, size - most), size - 1))
    values = np.maximum(values, 1e-12)
    kept = np.flatnonzero(values >= 1e-6 * values[-1])[::-1] if values[-1] > 1e-12 else np.array([-1])
    return values[kept], vectors[:, kept]


def _blocks(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(rows), BLOCK):
        yield pixels[rows[start:start + BLOCK]]
