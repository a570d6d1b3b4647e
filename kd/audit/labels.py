"""Labels that the images contradict, by the cross-validated probability of the given label (Northcutt et al. 2021).

The classifier is a cheap one: logistic regression on 64 principal components of 24 × 24 pixels, five folds, patients
(or clusters of copies) in one fold. A label is suspect where the classifier gives it at most 5 % and another class at
least what that class's own images get on average. Such a list ranks images to look at; it proves nothing.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kd.audit.measure import Measurements
from kd.audit.yardsticks import MOST
from kd.metrics.bootstrap import stratified_sample
from kd.progress import ShareCallback

FOLDS, COMPONENTS = 5, 64
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
    probabilities = _cross_validated(measured.colour[chosen].reshape(len(chosen), -1), labels, units[chosen], progress)
    rows = np.arange(len(labels))
    given = probabilities[rows, labels]
    usual = np.array([np.nanmean(np.append(given[labels == label], 0.0)) for label in range(len(counts))])
    likely = probabilities.argmax(axis=1)
    doubted = (likely != labels) & (given <= DOUBT) & (probabilities[rows, likely] >= usual[likely])
    order = np.flatnonzero(doubted)[np.argsort(given[doubted], kind="stable")]
    return [Suspect(int(chosen[row]), float(given[row]), int(likely[row]), float(probabilities[row, likely[row]]))
            for row in order]


def _cross_validated(pixels: NDArray[np.uint8], labels: NDArray[np.int64], units: NDArray[np.int64],
                     progress: ShareCallback) -> NDArray[np.float64]:
    """Probabilities [N, K] of images by classifiers that did not learn from them, nor from others of their unit."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    features = _components(pixels)
    progress(0.5)
    found = np.zeros((len(labels), int(labels.max()) + 1))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(features, labels, units)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class whose only patient is left out; not converged to the last digit
        for number, (fit, rest) in enumerate(folds):
            model = LogisticRegression(C=0.1, max_iter=100).fit(features[fit], labels[fit])
            found[np.ix_(rest, model.classes_)] = model.predict_proba(features[rest])
            progress(0.5 + (number + 1) / (2 * FOLDS))
    return found


def _components(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Principal components [N, C] of pixels scaled to their own spread; no label is used, so once is enough."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler(copy=False).fit_transform(pixels.astype(np.float32))
    parts = PCA(min(COMPONENTS, *scaled.shape), random_state=0, svd_solver="randomized", copy=False)
    found: NDArray[np.float32] = parts.fit_transform(scaled)
    return found
