"""Similarity measures of heat maps, pair by pair, in numpy.

Every measure takes two stacks of maps [N, H, W] in 0..1 on one grid and gives [N]. Two unrelated smooth maps are far
from 0 under most of them, so a value has no meaning without its baseline (`kd.metrics.agreement`).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kd.placement import Placement, averaging

Maps = NDArray[np.floating]
Values = NDArray[np.float64]
WINDOW = 7  # side of the SSIM window, as scikit-image has it; smaller on smaller grids


def to_grid(maps: Maps, height: int, width: int, placement: Placement | None = None) -> NDArray[np.float64]:
    """Maps [N, H, W] averaged to a coarser grid over the image, each cell the mean of the area it covers.

    placement: where the maps' cells lie in the image; None for maps that are stretched over it.
    """
    down, across = averaging((maps.shape[1], maps.shape[2]), (height, width), placement)
    return np.asarray(down @ np.asarray(maps, np.float64) @ across)


def pearson(one: Maps, other: Maps) -> Values:
    """Linear correlation over the cells, -1..1; nan where a map is constant."""
    return _correlate(_flat(one), _flat(other))


def spearman(one: Maps, other: Maps) -> Values:
    """Rank correlation over the cells, -1..1, unchanged by any monotone scaling of a map; nan as `pearson`."""
    from scipy.stats import rankdata  # imported here because it takes half a second

    return _correlate(rankdata(_flat(one), axis=1), rankdata(_flat(other), axis=1))


def cosine(one: Maps, other: Maps) -> Values:
    """Cosine between the maps as vectors, 0..1 for maps in 0..1. Unrelated smooth maps already have 0.8."""
    left, right = _flat(one), _flat(other)
    return _ratio((left * right).sum(axis=1), np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1)))


def ssim(one: Maps, other: Maps) -> Values:
    """Structural similarity (Wang 2004), the mean over all windows that lie in the grid; data range 1."""
    side = min(WINDOW, *one.shape[1:])
    left, right = np.asarray(one, np.float64), np.asarray(other, np.float64)
    mean_l, mean_r = _box(left, side), _box(right, side)
    unbiased = side**2 / max(side**2 - 1, 1)
    var_l, var_r = (unbiased * (_box(x**2, side) - mean**2) for x, mean in ((left, mean_l), (right, mean_r)))
    cov = unbiased * (_box(left * right, side) - mean_l * mean_r)
    near_zero, near_flat = 0.01**2, 0.03**2
    values = ((2 * mean_l * mean_r + near_zero) * (2 * cov + near_flat)
              / ((mean_l**2 + mean_r**2 + near_zero) * (var_l + var_r + near_flat)))
    return values.mean(axis=(1, 2))


def top_overlap(one: Maps, other: Maps, share: float) -> Values:
    """Intersection over union of the brightest `share` (0..1) of the cells of each map.

    Cells that tie for the last places hold those places together, in equal parts, so that a map of many zeros has no
    preferred corner; with such parts the intersection is the sum of minima, the union that of maxima.
    """
    left, right = _top(_flat(one), share), _top(_flat(other), share)
    return np.minimum(left, right).sum(axis=1) / np.maximum(left, right).sum(axis=1)


def top5(one: Maps, other: Maps) -> Values:
    return top_overlap(one, other, 0.05)


def top20(one: Maps, other: Maps) -> Values:
    return top_overlap(one, other, 0.20)


def distance(one: Maps, other: Maps) -> Values:
    """Distance between the maps' centres of mass, as a share of the image's side."""
    return np.hypot(*(_centre(one) - _centre(other)))


MEASURES: dict[str, Callable[[Maps, Maps], Values]] = {
    "spearman": spearman, "pearson": pearson, "cosine": cosine, "ssim": ssim, "iou_5": top5, "iou_20": top20,
    "distance": distance}
LESS_IS_MORE = frozenset({"distance"})  # measures where a small value means similar


def _flat(maps: Maps) -> Values:
    return np.asarray(maps, np.float64).reshape(len(maps), maps.shape[1] * maps.shape[2])


def _ratio(above: Values, below: Values) -> Values:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 1e-12)


def _correlate(left: Values, right: Values) -> Values:
    left, right = left - left.mean(axis=1, keepdims=True), right - right.mean(axis=1, keepdims=True)
    return _ratio((left * right).sum(axis=1), np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1)))


def _box(maps: Values, side: int) -> Values:
    """Means of all windows of this side that lie in the map, by cumulative sums."""
    sums = np.zeros((len(maps), maps.shape[1] + 1, maps.shape[2] + 1))
    sums[:, 1:, 1:] = maps.cumsum(axis=1).cumsum(axis=2)
    return (sums[:, side:, side:] - sums[:, :-side, side:] - sums[:, side:, :-side] + sums[:, :-side, :-side]) / side**2


def _top(flat: Values, share: float) -> Values:
    places = max(1, round(share * flat.shape[1]))
    last = np.sort(flat, axis=1)[:, -places][:, None]
    above, tied = flat > last, flat == last
    left = places - above.sum(axis=1, keepdims=True)
    return above + tied * left / tied.sum(axis=1, keepdims=True)


def _centre(maps: Maps) -> Values:
    """[2, N]: down and across, in shares of the side; nan for a map without mass."""
    exact = np.asarray(maps, np.float64)
    mass = exact.sum(axis=(1, 2))
    down, across = ((np.arange(side) + 0.5) / side for side in exact.shape[1:])
    return np.stack([_ratio(np.einsum("nhw,h->n", exact, down), mass),
                     _ratio(np.einsum("nhw,w->n", exact, across), mass)])
