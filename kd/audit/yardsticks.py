"""Yardsticks: what simple rules reach on the test images, which a model must beat before its score means anything."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.audit.components import BLOCK, components
from kd.audit.measure import NEIGHBOUR, PIXELS, Measurements
from kd.metrics.bootstrap import SHARE_SPAN, ConfidenceInterval, bootstrap_ci, stratified_sample
from kd.progress import ShareCallback

MAJORITY, NEAREST, LINEAR, FILE = ("majority", "nearest", "pixels", "files")
RANDOM, APART = ("nearest-random", "nearest-apart")
TITLES = {
    MAJORITY: "the most common class of training",
    NEAREST: f"the nearest neighbour on {NEIGHBOUR} × {NEIGHBOUR} pixels",
    LINEAR: f"logistic regression on {PIXELS} × {PIXELS} pixels",
    FILE: "eleven numbers that never look at anatomy",
    RANDOM: "the nearest neighbour, were the images split at random",
    APART: "the nearest neighbour without that patient or a copy",
}
TO_BEAT = (MAJORITY, NEAREST, LINEAR, FILE)
"""Yardsticks on the split as it is: the best of them is the number that a model must beat."""
MOST = 20_000  # training images that a yardstick learns from; of more a sample, stratified by class
COMPONENTS = 256  # of the pixels, which hold all that a penalised regression makes use of
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Yardstick:
    """A rule's test accuracy and balanced accuracy (mean recall) with 95 % intervals. key: one of TITLES. predicted:
    classes [N] of the test images as they are; None for a rule that was tested on others."""

    key: str
    accuracy: ConfidenceInterval
    balanced: ConfidenceInterval
    predicted: NDArray[np.int64] | None = None

    @property
    def title(self) -> str:
        return TITLES[self.key]

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "title": self.title, "accuracy": self.accuracy.to_json(),
                "balanced": self.balanced.to_json()}


Rule = Callable[[], NDArray[np.int64]]


def yardsticks(measured: Measurements, units: NDArray[np.int64], progress: ShareCallback) -> list[Yardstick]:
    """Every yardstick. units: what is of one patient, or a cluster of copies where patients are not known [N]; the
    intervals resample these, as images of one are correlated."""
    train, test = measured.rows("train"), measured.rows("test")
    fit = train[stratified_sample(measured.labels[train], MOST)]
    rules: dict[str, Rule] = {
        MAJORITY: lambda: np.full(len(test), np.bincount(measured.labels[train]).argmax()),
        NEAREST: lambda: nearest(measured, fit, test),
        LINEAR: lambda: _linear(measured, fit, test),
        FILE: lambda: _by_files(measured, fit, test)}
    found = []
    for number, (key, rule) in enumerate(rules.items()):
        found.append(_scored(key, rule(), measured.labels[test], units[test]))
        progress((number + 1) / (len(rules) + 2))
    drawn, rest = _random_split(measured.labels, len(test))
    found.append(_unbound(_scored(RANDOM, nearest(measured, rest, drawn), measured.labels[drawn], units[drawn])))
    progress((len(rules) + 1) / (len(rules) + 2))
    if np.isin(units[test], units[fit]).any():  # else it is what the split as it is gives
        found.append(_unbound(_scored(APART, nearest(measured, fit, test, units), measured.labels[test], units[test])))
    progress(1.0)
    return found


def _unbound(one: Yardstick) -> Yardstick:
    return replace(one, predicted=None)


def best(found: Sequence[Yardstick]) -> Yardstick:
    """The one to beat."""
    return max((one for one in found if one.key in TO_BEAT), key=lambda one: one.accuracy.mean or 0.0)


def _random_split(labels: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """About `count` images drawn with the classes' shares, and of the rest as many as a yardstick learns from."""
    drawn = stratified_sample(labels, count)
    rest = np.setdiff1d(np.arange(len(labels)), drawn)
    return drawn, rest[stratified_sample(labels[rest], MOST)]


def nearest(measured: Measurements, fit: NDArray[np.int64], asked: NDArray[np.int64],
            units: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Class of the nearest of the images `fit` to each of the images `asked`, by the Euclidean distance of their small
    grey copies. units: where given, neighbours of the same unit do not count."""
    small = measured.grey.reshape(len(measured), -1)
    least, found = np.full(len(asked), np.inf, np.float32), np.full(len(asked), fit[0])
    for first in range(0, len(fit), _BLOCK):
        block = fit[first:first + _BLOCK]
        known = small[block].astype(np.float32)
        lengths = np.einsum("ij,ij->i", known, known)
        for start in range(0, len(asked), _BLOCK):
            own, rows = slice(start, start + _BLOCK), asked[start:start + _BLOCK]
            distances = lengths[None] - 2 * (small[rows].astype(np.float32) @ known.T)
            if units is not None:
                distances[units[rows][:, None] == units[block][None]] = np.inf
            _keep_nearer(distances, block, least[own], found[own])
    return measured.labels[found]


def _keep_nearer(distances: NDArray[np.float32], block: NDArray[np.int64], least: NDArray[np.float32],
                 found: NDArray[np.int64]) -> None:
    """Write the images of a block that are nearer than the nearest so far, and their distances, in place."""
    column = distances.argmin(axis=1)
    own = distances[np.arange(len(column)), column]
    nearer = own < least
    least[nearer], found[nearer] = own[nearer], block[column[nearer]]


def _linear(measured: Measurements, fit: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.int64]:
    from sklearn.linear_model import LogisticRegression

    pixels = measured.colour.reshape(len(measured), -1)
    turned = components(pixels, fit, COMPONENTS)
    model = LogisticRegression(C=0.01, max_iter=100, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged to the last digit: what it has then is its answer
        model.fit(turned.of(pixels, fit), measured.labels[fit])
    return np.concatenate([model.predict(turned.of(pixels, asked[start:start + BLOCK]))
                           for start in range(0, len(asked), BLOCK)])


def _by_files(measured: Measurements, fit: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.int64]:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(100, random_state=0, n_jobs=1).fit(measured.facts[fit], measured.labels[fit])
    found: NDArray[np.int64] = model.predict(measured.facts[asked])
    return found


def _scored(key: str, predicted: NDArray[np.int64], labels: NDArray[np.int64],
            units: NDArray[np.int64]) -> Yardstick:
    right = (predicted == labels).astype(np.float64)
    groups = [str(unit) for unit in units.tolist()]
    counts = np.bincount(labels)
    weights = len(labels) / (np.count_nonzero(counts) * counts[labels])
    balanced = bootstrap_ci(right * weights, groups, span=(0.0, float(weights.max())))
    return Yardstick(key, bootstrap_ci(right, groups, span=SHARE_SPAN), _within(balanced), predicted)


def _within(one: ConfidenceInterval) -> ConfidenceInterval:
    """The interval of a share: a resample with more images of a rare class may weigh more than 1."""
    return replace(one, high=None if one.high is None else min(one.high, 1.0))
