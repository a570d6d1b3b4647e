"""Paired differences of two models on the same test images: accuracy, negative log-likelihood, calibration error.

Two sources of variance are kept apart: the test images (a confidence interval, paired by image, resampled by patient
where patients are known) and the seeds (a standard deviation). Without torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.metrics import classification
from kd.metrics.bootstrap import (
    GAP_SPAN,
    MIN_SAMPLES,
    SHARE_SPAN,
    ConfidenceInterval,
    bootstrap_ci,
    bootstrap_of_sums,
)
from kd.store.predictions import Predictions

BETTER, WORSE, NOT_SIGNIFICANT = VERDICTS = ("better", "worse", "not significantly different")


@dataclass(frozen=True)
class Measure:
    """A score in which two models differ. unit: of the difference. scale: how many of these the score's own unit has.
    digits: after the point."""

    name: str
    unit: str
    scale: int
    digits: int
    lower_is_better: bool = False


ACCURACY = Measure("accuracy", "points", 100, 1)
NLL = Measure("cross-entropy", "nats", 1, 3, lower_is_better=True)
ECE = Measure("calibration error", "points", 100, 1, lower_is_better=True)


@dataclass(frozen=True)
class SeedScores:
    """Scores of one kind over the seeds, in the seeds' order."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation; None for a single seed."""
        return stdev(self.values) if self.n > 1 else None

    def to_json(self) -> dict[str, Any]:
        return {"mean": self.mean, "sd": self.sd, "n": self.n, "values": list(self.values)}


@dataclass(frozen=True)
class PairedDifference:
    """Paired difference of two models on the same test images, over the seeds.

    value: the mean over seeds, in the unit of the measure (points are percentage points). low, high: its 95 % bootstrap
    interval, of these trained models on other test images; None where there are too few images, or patients, for one,
    or all resamples are equal. by_seed: the difference of each seed. people: number of patients that are resampled;
    None where patients are not known, and images are resampled.
    """

    value: float
    low: float | None
    high: float | None
    by_seed: SeedScores
    images: int
    people: int | None = None
    measure: Measure = ACCURACY

    @property
    def has_interval(self) -> bool:
        """Whether there is a confidence interval."""
        return self.low is not None

    @property
    def verdict(self) -> str:
        """One of VERDICTS: better or worse only where the interval excludes 0."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return NOT_SIGNIFICANT
        return BETTER if (self.low > 0) is not self.measure.lower_is_better else WORSE

    def to_json(self) -> dict[str, Any]:
        return {self.measure.unit: self.value, "low": self.low, "high": self.high, "sd": self.by_seed.sd,
                "by_seed": list(self.by_seed.values), "images": self.images, "people": self.people,
                "verdict": self.verdict}


def difference(first: Sequence[Predictions], second: Sequence[Predictions]) -> PairedDifference:
    """Paired difference in accuracy of two models on the same test images, a pair of predictions per seed.

    Images are resampled (percentile bootstrap, Efron 1979) with both models' predictions, so that images which both get
    right or wrong add no noise; by patient where patients are known, because images of one patient are correlated. In
    each resample the difference is averaged over the seeds.
    """
    change = np.stack([one.right.astype(np.float64) - other.right for one, other in zip(first, second, strict=True)])
    found = bootstrap_ci(change.mean(axis=0), _people((*first, *second)), span=GAP_SPAN)
    return _difference(ACCURACY, change.mean(axis=1), found, (*first, *second))


def nll_difference(first: Sequence[Predictions], second: Sequence[Predictions]) -> PairedDifference:
    """As `difference`, in the negative log-likelihood of the true class: the test cross-entropy, in nats."""
    change = np.stack([_nll(one) - _nll(other) for one, other in zip(first, second, strict=True)])
    found = bootstrap_ci(change.mean(axis=0), _people((*first, *second)))
    return _difference(NLL, change.mean(axis=1), found, (*first, *second))


def ece_difference(first: Sequence[Predictions], second: Sequence[Predictions]) -> PairedDifference:
    """As `difference`, in the expected calibration error, in percentage points.

    It is no mean over images, so each resample's error is computed anew. A resample's error is a little too large, for
    both models, which the difference mostly cancels.
    """
    both, seeds = (*first, *second), len(first)
    gaps = [classification.calibration_gaps(one.logits, one.labels) for one in both]
    known = np.asarray(np.isfinite(np.concatenate(gaps, axis=1)).all(axis=1))
    parts = np.where(known[:, None], np.column_stack([*gaps, np.ones(len(known))]), 0.0)

    def errors(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibration errors [..., 2 · seeds] from sums [..., F]."""
        bins = sums[..., :-1].reshape(*sums.shape[:-1], len(both), -1)
        return np.asarray(np.abs(bins).sum(axis=-1) / np.maximum(sums[..., -1:], 1))

    def gap(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        found = errors(sums)
        return np.asarray((found[..., :seeds] - found[..., seeds:]).mean(axis=-1))

    own = errors(parts.sum(axis=0))
    return _difference(ECE, own[:seeds] - own[seeds:], bootstrap_of_sums(parts, gap, _people(both)), both)


def _difference(measure: Measure, by_seed: NDArray[np.float64], found: ConfidenceInterval,
                models: Sequence[Predictions]) -> PairedDifference:
    people, scale = _people(models), measure.scale
    low, high = (None if edge is None else scale * edge for edge in (found.low, found.high))
    return PairedDifference(scale * float(by_seed.mean()), low, high,
                            SeedScores(tuple(scale * float(one) for one in by_seed)), found.n,
                            None if people is None else len(set(people)), measure)


def accuracy_ci(models: Sequence[Predictions]) -> ConfidenceInterval:
    """Mean accuracy of several seeds on the same test images, 0..1, with a confidence interval as in `difference`."""
    return bootstrap_ci(np.stack([one.right for one in models]).mean(axis=0), _people(models), span=SHARE_SPAN)


def nll_scores(models: Sequence[Predictions]) -> SeedScores:
    """Mean negative log-likelihood of each model, in nats."""
    return SeedScores(tuple(float(_nll(one).mean()) for one in models))


def ece_scores(models: Sequence[Predictions]) -> SeedScores:
    """Expected calibration error of each model, 0..1."""
    return SeedScores(tuple(classification.reliability(classification.softmax(one.logits), one.labels).ece
                            for one in models))


def _nll(one: Predictions) -> NDArray[np.float64]:
    return classification.negative_log_likelihood(one.logits, one.labels)


def _people(models: Sequence[Predictions]) -> tuple[str, ...] | None:
    return next((one.groups for one in models if one.groups), None)


def between(one: PairedDifference) -> str:
    """The interval, with a typographic minus: `−1.2 to +3.4`; or that there is none."""
    if one.low is not None and one.high is not None:
        return f"{signed(one.low, one.measure.digits)} to {signed(one.high, one.measure.digits)}"
    if (one.images if one.people is None else one.people) >= MIN_SAMPLES:
        return "no interval: the same in every resample"
    return f"too few {'images' if one.people is None else 'patients'} for an interval"


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign: `+3.4`, `−1.2`; zero is `+0.0`."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")
