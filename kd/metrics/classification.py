"""Scores of a classifier: scikit-learn's where it has them, imported late, because the first page needs none.

Accuracy, recall and macro-F1 are computed from the confusion matrix, because the bootstrap resamples a thousand
matrices and not labels; tests compare them with scikit-learn. It has no reliability diagram with counts and so no
calibration error, and AUROC of several classes only where every class has an image.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
BINS = 15  # what papers on calibration use (Guo 2017)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of logits [..., K], computed in float64."""
    from scipy import special

    found: NDArray[np.float64] = special.softmax(np.asarray(logits, dtype=np.float64), axis=-1)
    return found


def confusion(truth: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Confusion matrix: counts [K, K], row = true class, column = predicted class."""
    from sklearn.metrics import confusion_matrix

    if not len(truth):
        return np.zeros((classes, classes), np.int64)
    found: NDArray[np.int64] = confusion_matrix(truth, predicted, labels=np.arange(classes))
    return found


def accuracy(table: NDArray[np.int64]) -> float:
    """Accuracy from a confusion matrix, 0..1; nan when it is empty."""
    total = table.sum()
    return float(np.trace(table) / total) if total else float("nan")


def recall_per_class(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Recall of each class [K], 0..1; nan for a class without images."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.diag(table) / table.sum(axis=1)


def macro_f1(table: NDArray[np.int64]) -> float:
    """Macro-F1, 0..1: mean F1 score over the classes that are present or predicted."""
    hits, seen = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    return float(np.mean(2 * hits[seen > 0] / seen[seen > 0])) if seen.any() else float("nan")


def auroc_per_class(probabilities: NDArray[np.floating], truth: Labels) -> NDArray[np.float64]:
    """Area under the ROC curve of each class against the rest [K], from probabilities [N, K]; 0.5 is random.

    nan where the class, or the rest, has no image, and where a probability is not finite.
    """
    member = truth[:, None] == np.arange(probabilities.shape[1])
    own, rest = member.sum(axis=0), (~member).sum(axis=0)
    from scipy.stats import rankdata  # imported here because it takes half a second

    place = rankdata(probabilities, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = ((place * member).sum(axis=0) - own * (own + 1) / 2) / (own * rest)
    return np.where(np.isfinite(probabilities).all(axis=0), found, np.nan)


def auroc(probabilities: NDArray[np.floating], truth: Labels) -> float:
    """Mean of `auroc_per_class` over the classes that have one; nan when none has."""
    return mean_of_known(auroc_per_class(probabilities, truth))


def mean_of_known(values: NDArray[np.floating]) -> float:
    """Mean without nan; nan when there is nothing else."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True, eq=False)
class Reliability:
    """Reliability diagram: accuracy by confidence, in equal bins over 0..1; bin b is `(b/B, (b+1)/B]`.

    counts: images per bin [B]. confidence, accuracy: their means per bin [B]; nan in empty bins.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error (Naeini 2015): the mean gap between confidence and accuracy, 0..1."""
        full = self.counts > 0
        if not full.any():
            return float("nan")
        return float(np.average(np.abs(self.confidence - self.accuracy)[full], weights=self.counts[full]))

    def to_json(self) -> list[dict[str, Any]]:
        """One entry per bin, with None in empty ones."""
        size = len(self.counts)
        return [{"low": number / size, "high": (number + 1) / size, "count": int(count),
                 "confidence": float(confidence) if count else None, "accuracy": float(right) if count else None}
                for number, (count, confidence, right) in enumerate(zip(self.counts, self.confidence, self.accuracy,
                                                                        strict=True))]


def reliability(probabilities: NDArray[np.floating], truth: Labels, bins: int = BINS) -> Reliability:
    """Reliability diagram of probabilities [N, K], by that of the predicted class; rows with nan are left out."""
    finite = np.isfinite(probabilities).all(axis=1)
    confidence, right = probabilities[finite].max(axis=1), probabilities[finite].argmax(axis=1) == truth[finite]
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(counts, np.bincount(place, confidence, bins) / counts,
                           np.bincount(place, right, bins) / counts)


def calibration_gaps(logits: NDArray[np.floating], truth: Labels, bins: int = BINS) -> NDArray[np.float64]:
    """Confidence minus correctness of each image, in the column of its bin of confidence [N, bins]; nan for an image
    whose logits are not finite. The calibration error is the sum over bins of the size of their sums, over N."""
    probabilities = softmax(logits)
    confidence = probabilities.max(axis=1)
    found = np.zeros((len(truth), bins))
    place = np.clip(np.ceil(np.nan_to_num(confidence) * bins).astype(np.int64) - 1, 0, bins - 1)
    found[np.arange(len(truth)), place] = confidence - (probabilities.argmax(axis=1) == truth)
    return found


def negative_log_likelihood(logits: NDArray[np.floating], truth: Labels) -> NDArray[np.float64]:
    """Cross-entropy of each image [N] with its label, in nats: −log of the true class's probability, 27.6 at most."""
    chosen = softmax(logits)[np.arange(len(truth)), truth]
    return np.asarray(-np.log(np.maximum(chosen, 1e-12)))


def summarise(logits: NDArray[np.floating], truth: Labels) -> dict[str, Any]:
    """All scores of logits [N, K], for JSON (None where a score is not finite).

    accuracy, macro_f1, loss (mean cross-entropy, nats), recall and AUROC per class and their macro mean, ECE with its
    reliability bins, and confusion.
    """
    classes = logits.shape[1]
    table = confusion(truth, logits.argmax(axis=1).astype(np.int64), classes)
    probabilities = softmax(logits)
    areas, bins = auroc_per_class(probabilities, truth), reliability(probabilities, truth)
    return {"accuracy": accuracy(table), "macro_f1": macro_f1(table),
            "loss": float(negative_log_likelihood(logits, truth).mean()), "auroc": known_values(mean_of_known(areas)),
            "ece": known_values(bins.ece), "recall": [known_values(value) for value in recall_per_class(table)],
            "auroc_per_class": [known_values(value) for value in areas], "reliability": bins.to_json(),
            "confusion": table.tolist()}


def known_values(value: float) -> float | None:
    """A number for JSON: None where it is not finite."""
    return float(value) if np.isfinite(value) else None
