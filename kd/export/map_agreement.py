"""Agreement of class maps image by image, with its low end, its worst images and its baseline. In numpy.

A network can keep its accuracy while its class maps move, so the mean alone says too little.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kd.metrics.agreement import ROUNDS
from kd.metrics.bootstrap import bootstrap_ci, derangements
from kd.metrics.map_similarity import Maps, Values, spearman, to_grid
from kd.placement import Placement

WORST = 6  # images that are named
LOW = 0.05  # quantile that stands beside the mean


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of two models' maps over the test images.

    mean: with its 95 % confidence interval, by patient where patients are known; None where there is none. low: 5 %
    quantile over the images. chance: the same two models' maps of different images; None with a single image. worst:
    (name, value) of the images with the lowest values, lowest first. images: with maps that are not constant.
    """

    mean: float
    interval: tuple[float | None, float | None]
    low: float
    chance: float | None
    worst: tuple[tuple[str, float], ...]
    images: int


def agreement(one: Maps, other: Maps, names: Sequence[str], groups: Sequence[str] | None = None, seed: int = 0
              ) -> tuple[Agreement | None, Values]:
    """Agreement of maps [N, H, W] of the same images on one grid (None where all are constant), and the correlation of
    each image [N], nan where a map is constant. names, groups: of the images, and their patients."""
    values = spearman(one, other)
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return None, values
    found = bootstrap_ci(values[known], None if groups is None else np.asarray(groups)[known].tolist())
    others = [spearman(one[known], other[known[turn]]).mean() for turn in derangements(len(known), ROUNDS, seed)]
    worst = lowest(values)
    return Agreement(float(values[known].mean()), (found.low, found.high), float(np.quantile(values[known], LOW)),
                     float(np.mean(others)) if others else None,
                     tuple((names[number], float(values[number])) for number in worst), len(known)), values


def lowest(values: Values) -> NDArray[np.int64]:
    """Images with the lowest finite values, at most WORST, lowest first."""
    known = np.flatnonzero(np.isfinite(values))
    return known[np.argsort(values[known], kind="stable")][:WORST]


def on_one_grid(one: Maps, other: Maps, placements: tuple[Placement | None, Placement | None]) -> tuple[Maps, Maps]:
    """Maps of two models on the coarser of their grids, each laid where its cells look."""
    rows, columns = (min(one.shape[axis], other.shape[axis]) for axis in (1, 2))
    return to_grid(one, rows, columns, placements[0]), to_grid(other, rows, columns, placements[1])
