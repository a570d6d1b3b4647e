"""Labels that the images contradict, by the cross-validated probability of the given label (Northcutt et al. 2021).

The probability is the geometric mean of two cheap classifiers', linear and kernel logistic regression (300 landmarks)
on 64 principal components of 24 × 24 pixels; five folds, patients (or clusters of copies) in one fold. A label is
suspect where it gets at most 5 % and another class at least what that class's own images get on average. Such a list
ranks images to look at; it proves nothing. With a twentieth of the labels changed (`benchmarks.label_suspects`, three
draws) it names 45 % of the changed ones of a brain MRI set, and half of what it names was changed; 17 and 16 % with
breast ultrasounds, 35 and 90 % with PneumoniaMNIST.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kd.audit.components import components
from kd.audit.measure import Measurements
from kd.audit.yardsticks import MOST
from kd.metrics.bootstrap import stratified_sample
from kd.progress import ShareCallback

FOLDS, COMPONENTS, LANDMARKS = 5, 64, 300
DOUBT = 0.05  # probability of the given label, at most


@dataclass(frozen=True)
class Suspect:
    """An image by number whose label is in doubt. given: the label's probability. likely: the class that the images
    speak for, and its probability."""

    image: int
    given: float
    likely: int
    probability: float


def suspects(measured: Measurements, units: NDArray[np.int64], progress: ShareCallback) -> list[Suspect]:
    """Suspect labels, the least probable first; none in a set too small to tell. units: see `yardsticks`."""
    chosen = stratified_sample(measured.labels, MOST)
    labels = measured.labels[chosen]
    counts = np.bincount(labels)
    if counts[counts > 0].min() < FOLDS:
        return []
    pixels = measured.colour.reshape(len(measured), -1)
    features = components(pixels, chosen, COMPONENTS).of(pixels, chosen)
    progress(0.5)
    probabilities = _cross_validated(features, labels, units[chosen], progress)
    rows = np.arange(len(labels))
    given = probabilities[rows, labels]
    usual = np.array([np.nanmean(np.append(given[labels == label], 0.0)) for label in range(len(counts))])
    likely = probabilities.argmax(axis=1)
    doubted = (likely != labels) & (given <= DOUBT) & (probabilities[rows, likely] >= usual[likely])
    order = np.flatnonzero(doubted)[np.argsort(given[doubted], kind="stable")]
    return [Suspect(int(chosen[row]), float(given[row]), int(likely[row]), float(probabilities[row, likely[row]]))
            for row in order]


def _cross_validated(features: NDArray[np.float32], labels: NDArray[np.int64], units: NDArray[np.int64],
                     progress: ShareCallback) -> NDArray[np.float64]:
    """Probabilities [N, K] of images by classifiers that did not learn from them, nor from others of their unit."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline

    evened = _evened(features)
    found = np.zeros((len(labels), int(labels.max()) + 1))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(features, labels, units)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class whose only patient is left out; not converged to the last digit
        for number, (fit, rest) in enumerate(folds):
            linear = LogisticRegression(C=0.1, max_iter=100).fit(features[fit], labels[fit])
            landmarks = Nystroem(gamma=1.0, n_components=min(LANDMARKS, len(fit)), random_state=0)
            kernel = make_pipeline(landmarks, LogisticRegression(C=10.0, max_iter=100)).fit(evened[fit], labels[fit])
            both = np.sqrt(linear.predict_proba(features[rest]) * kernel.predict_proba(evened[rest]))
            found[np.ix_(rest, linear.classes_)] = both / both.sum(axis=1, keepdims=True)
            progress(0.5 + (number + 1) / (2 * FOLDS))
    return found


def _evened(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Components [N, C], each divided by the root of its spread, at a mean square length of 1: else the first few,
    which are light and position, would be the whole distance."""
    even = features / np.sqrt(np.maximum(features.std(axis=0), 1e-6))
    found: NDArray[np.float32] = even / max(float(np.sqrt((even**2).sum(axis=1).mean())), 1e-6)
    return found
