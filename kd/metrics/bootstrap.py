"""Bootstrap confidence intervals, and baselines: derangements, centred and random maps. In numpy."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
CHUNK = 100  # resamples at a time, to bound the memory
SHARE_SPAN, GAP_SPAN = (0.0, 1.0), (-1.0, 1.0)  # ranges of shares, and of differences of two shares
MIN_SAMPLES = 5  # images or patients: the bootstrap of fewer is far too narrow
RANDOM_GRID = 7  # units per side of a random map, as smooth as a real map of the last stage
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

    groups: the patient of each image; then whole patients are resampled, because images of one patient are correlated.
    span: the lowest and highest value that an image can have. Where all images, or patients, have the same value, all
    resamples are equal too, and a bootstrap interval would have no width. There the interval is exact instead: n equal
    values of n are observed with less than 2.5 % probability when more than a share p = 1 − 0.025^(1/n) differs from
    them (Clopper & Pearson 1934), and those may lie anywhere in the span.
    """
    finite = np.isfinite(values)
    count = int(finite.sum())
    if not count:
        return ConfidenceInterval(None, None, None, 0)
    units = np.unique(_units(groups, len(values))[finite], return_inverse=True)[1]
    sums, sizes = np.bincount(units, values[finite]), np.bincount(units)
    mean = float(values[finite].mean())
    if len(sums) < MIN_SAMPLES:
        return ConfidenceInterval(mean, None, None, count)
    if _alike(sums / sizes):
        low, high = _around_equals(mean, len(sums), span)
        return ConfidenceInterval(mean, low, high, count)
    pick = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[pick].sum(axis=1) / sizes[pick].sum(axis=1)
    ends = np.quantile(means, (0.025, 0.975))
    return ConfidenceInterval(mean, float(ends[0]), float(ends[1]), count)


def bootstrap_of_sums(
    parts: NDArray[np.float64],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> ConfidenceInterval:
    """A statistic of a whole set of images that is no mean over them, and its percentile bootstrap interval.

    parts: what each image adds [N, F]. statistic: from their sums [..., F] to the value [...]. groups: as in
    `bootstrap_ci`. No interval where all resamples are equal.
    """
    units = _units(groups, len(parts))
    own = np.zeros((int(units.max(initial=-1)) + 1, parts.shape[1]))
    np.add.at(own, units, parts)
    value = float(statistic(own.sum(axis=0)))
    if len(own) < MIN_SAMPLES:
        return ConfidenceInterval(value, None, None, len(parts))
    draw = np.random.default_rng(seed)
    found = np.concatenate([statistic(_times_drawn(draw, CHUNK, len(own)) @ own) for _ in range(RESAMPLES // CHUNK)])
    if _alike(found):
        return ConfidenceInterval(value, None, None, len(parts))
    ends = np.quantile(found, (0.025, 0.975))
    return ConfidenceInterval(value, float(ends[0]), float(ends[1]), len(parts))


def _times_drawn(draw: np.random.Generator, resamples: int, count: int) -> NDArray[np.float64]:
    """How often each of `count` units is drawn with replacement in each resample [R, count]."""
    pick = draw.integers(0, count, (resamples, count)) + count * np.arange(resamples)[:, None]
    return np.bincount(pick.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)


def _units(groups: Sequence[str] | None, count: int) -> NDArray[np.int64]:
    """Number of the unit that each of `count` images is drawn with: its patient, or itself."""
    return np.arange(count) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]


def _alike(values: NDArray[np.float64]) -> bool:
    """Whether all values are equal up to the rounding of a sum."""
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
    """Lengths of an interval's error bars below and above its mean; 0 where there is no interval."""
    return (0.0, 0.0) if low is None or high is None else (mean - low, high - mean)


def derangements(count: int, rounds: int, seed: int = 0) -> NDArray[np.int64]:
    """Derangements [R, N]: `rounds` ways to pair each image with another one, never twice with the same.

    Fewer rounds where there are not that many others; none for a single image.
    """
    order = np.random.default_rng(seed).permutation(count)
    shifts = np.random.default_rng((seed, 1)).permutation(np.arange(1, count))[:rounds]
    found = np.empty((len(shifts), count), np.int64)
    for row, shift in zip(found, shifts, strict=True):
        row[order] = np.roll(order, shift)
    return found


def centre_gaussian(height: int, width: int) -> NDArray[np.float32]:
    """A centred Gaussian [H, W] in 0..1: the baseline map that depends neither on image nor on model."""
    across, down = (((np.arange(side) + 0.5) / side - 0.5) / SPREAD for side in (width, height))
    return np.exp(-(down[:, None] ** 2 + across[None] ** 2) / 2).astype(np.float32)


def random_maps(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Random maps [N, 7, 7], uniform in 0..1; upsampled, they are as smooth as real maps of the last stage."""
    return np.random.default_rng((seed, RANDOM_GRID)).random((count, RANDOM_GRID, RANDOM_GRID), dtype=np.float32)


def stratified_sample(labels: NDArray[np.int64], limit: int, seed: int = 0) -> NDArray[np.int64]:
    """Stratified sample: indices [n], ascending, of about `limit` images with the classes' shares; all for limit 0.

    Every class keeps at least one image, so few images and many classes give more than `limit`.
    """
    if limit <= 0 or limit >= len(labels):
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    exact = np.array([len(images) * limit / len(labels) for images in members])
    sizes = np.maximum(np.floor(exact).astype(np.int64), 1)
    # Largest-remainder rounding: what rounding down left over goes to the classes that lost most by it.
    for number in np.argsort(sizes - exact, kind="stable")[:max(limit - int(sizes.sum()), 0)]:
        sizes[number] += 1
    return np.sort(np.concatenate([images[:size] for images, size in zip(members, sizes, strict=True)]))
