"""What chance gives, and how sure a mean is: derangements, centred and random maps, bootstrap intervals. In numpy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SHARE_SPAN, GAP_SPAN = (0.0, 1.0), (-1.0, 1.0)  # the range of values that are shares of something, and of their gaps
MIN_SAMPLES = 5  # units: of fewer, all that the bootstrap can draw is the few again, and its interval is far too narrow
RANDOM_GRID = 7  # a map of so many units per side is as smooth as a real last stage's
SPREAD = 0.25  # standard deviation of the centred map, as a share of the side


@dataclass(frozen=True)
class ConfidenceInterval:
    """A mean over `n` images with its 95 % confidence interval. mean: None where there is no image. low, high: None
    where there are fewer than five images, or these are of fewer than five patients, which is too few for an interval;
    and where all values are equal and have no known range. An interval always has a width."""

    mean: float | None
    low: float | None
    high: float | None
    n: int

    def to_json(self) -> dict[str, float | None]:
        return asdict(self)


def bootstrap_ci(
    values: NDArray[np.floating],
    groups: Sequence[str] | None = None,
    seed: int = 0,
    span: tuple[float, float] | None = None,
) -> ConfidenceInterval:
    """The mean of values [N] (nan left out) and its percentile bootstrap interval (Efron 1979).

    groups: the patient of each image; then whole patients are drawn again, because images of one patient are alike.
    span: the lowest and highest value that an image can have. Where all images, or patients, have the same value, all
    draws are the same too, and a bootstrap interval would have no width. There the interval is exact instead: n of n
    alike are seen with less than 2.5 % probability when more than a share p = 1 − 0.025^(1/n) differs from them
    (Clopper & Pearson 1934), and those may lie anywhere in the span.
    """
    told = np.isfinite(values)
    count = int(told.sum())
    if not count:
        return ConfidenceInterval(None, None, None, 0)
    units = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    units = np.unique(units[told], return_inverse=True)[1]
    sums, sizes = np.bincount(units, values[told]), np.bincount(units)
    mean = float(values[told].mean())
    if len(sums) < MIN_SAMPLES:
        return ConfidenceInterval(mean, None, None, count)
    if _alike(sums / sizes):
        low, high = _around_equals(mean, len(sums), span)
        return ConfidenceInterval(mean, low, high, count)
    pick = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[pick].sum(axis=1) / sizes[pick].sum(axis=1)
    ends = np.quantile(means, (0.025, 0.975))
    return ConfidenceInterval(mean, float(ends[0]), float(ends[1]), count)


def _alike(values: NDArray[np.float64]) -> bool:
    """Whether they differ by no more than the rounding of a sum."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _around_equals(value: float, count: int, span: tuple[float, float] | None) -> tuple[float | None, float | None]:
    if span is None:
        return None, None
    others = 1 - 0.025 ** (1 / count)
    # A mean of equal values may lie a last digit beyond their range.
    return min(value - others * (value - span[0]), value), max(value + others * (span[1] - value), value)


def scatter_back(values: NDArray[np.float64], kept: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Values of the images `kept` at their places among `count` images; nan at the others."""
    found = np.full(count, np.nan)
    found[kept] = values
    return found


def error_bars(mean: float, low: float | None, high: float | None) -> tuple[float, float]:
    """How far an interval goes below and above its mean; 0 where there is none."""
    return (0.0, 0.0) if low is None or high is None else (mean - low, high - mean)


def derangements(count: int, rounds: int, seed: int = 0) -> NDArray[np.int64]:
    """`rounds` ways [R, N] to give each image another one than itself; no image gets the same one twice.

    Fewer rounds where there are not that many others; none for a single image.
    """
    order = np.random.default_rng(seed).permutation(count)
    shifts = np.random.default_rng((seed, 1)).permutation(np.arange(1, count))[:rounds]
    found = np.empty((len(shifts), count), np.int64)
    for row, shift in zip(found, shifts, strict=True):
        row[order] = np.roll(order, shift)
    return found


def centre_gaussian(height: int, width: int) -> NDArray[np.float32]:
    """A Gaussian around the middle of the picture [H, W], 0..1: what a map knows that knows only where things lie."""
    across, down = (((np.arange(side) + 0.5) / side - 0.5) / SPREAD for side in (width, height))
    return np.exp(-(down[:, None] ** 2 + across[None] ** 2) / 2).astype(np.float32)


def random_maps(count: int, seed: int = 0) -> NDArray[np.float32]:
    """[N, 7, 7], uniform in 0..1: raised to the picture they are as smooth as a real last stage's."""
    return np.random.default_rng((seed, RANDOM_GRID)).random((count, RANDOM_GRID, RANDOM_GRID), dtype=np.float32)


def stratified_sample(labels: NDArray[np.int64], limit: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices [n], ascending, of about `limit` images with the classes' shares kept; all of them for limit 0.

    A class that is there keeps at least one image, so few images and many classes give more than `limit`.
    """
    if limit <= 0 or limit >= len(labels):
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    exact = np.array([len(one) * limit / len(labels) for one in members])
    wanted = np.maximum(np.floor(exact).astype(np.int64), 1)
    # The seats that rounding left over go to the classes that lost most by it.
    for number in np.argsort(wanted - exact, kind="stable")[:max(limit - int(wanted.sum()), 0)]:
        wanted[number] += 1
    return np.sort(np.concatenate([one[:size] for one, size in zip(members, wanted, strict=True)]))
