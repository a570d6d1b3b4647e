"""Principal components of small images, computed in blocks: memory depends on pixels and components, not on images."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1024  # images that are floating-point numbers at once


def components(pixels: NDArray[np.uint8], fit: NDArray[np.int64], most: int) -> NDArray[np.float32]:
    """The first components [N, C] of images [N, P], C at most `most` and at least 1. fit: the rows that the mean, the
    spread of each pixel and the directions come from. No label is used, so a classifier's test images may be among
    them."""
    mean, scale = _moments(pixels, fit)
    directions = _directions(pixels, fit, most, mean, scale)
    found = np.empty((len(pixels), directions.shape[1]), np.float32)
    for start in range(0, len(pixels), _BLOCK):
        rows = slice(start, start + _BLOCK)
        found[rows] = _scaled(pixels[rows], mean, scale) @ directions
    return found


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


def _directions(pixels: NDArray[np.uint8], fit: NDArray[np.int64], most: int, mean: NDArray[np.float32],
                scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors [P, C] of the greatest spread: eigenvectors of the pixels' products, or of the images' where these
    are fewer."""
    if len(fit) < pixels.shape[1]:
        scaled = _scaled(pixels[fit], mean, scale)
        values, vectors = _leading(scaled @ scaled.T, most)
        return scaled.T @ (vectors / np.sqrt(values)).astype(np.float32)
    products = np.zeros((pixels.shape[1], pixels.shape[1]), np.float32)
    for block in _blocks(pixels, fit):
        scaled = _scaled(block, mean, scale)
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
    for start in range(0, len(rows), _BLOCK):
        yield pixels[rows[start:start + _BLOCK]]


def _scaled(block: NDArray[np.uint8], mean: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = (block.astype(np.float32) - mean) / scale
    return scaled
