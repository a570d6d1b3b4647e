"""Scores of a classifier, in numpy."""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of logits [..., K], computed in float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def confusion(truth: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Counts [K, K]: row = true class, column = predicted class."""
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def accuracy(table: NDArray[np.int64]) -> float:
    """Share of right answers in a confusion table, 0..1; nan when it is empty."""
    total = table.sum()
    return float(np.trace(table) / total) if total else float("nan")


def recall_per_class(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each true class that was found [K]; nan for a class without images."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.diag(table) / table.sum(axis=1)


def macro_f1(table: NDArray[np.int64]) -> float:
    """Mean over classes of the F1 score, 0..1. Classes neither present nor predicted are left out."""
    hits, seen = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    return float(np.mean(2 * hits[seen > 0] / seen[seen > 0])) if seen.any() else float("nan")


def summarise(logits: NDArray[np.floating], truth: Labels) -> dict[str, float | list]:
    """accuracy, macro_f1, loss (mean cross-entropy, nats), recall per class and confusion, of logits [N, K]."""
    classes = logits.shape[1]
    table = confusion(truth, logits.argmax(axis=1).astype(np.int64), classes)
    chosen = softmax(logits)[np.arange(len(truth)), truth]
    recall = [None if np.isnan(value) else float(value) for value in recall_per_class(table)]
    return {"accuracy": accuracy(table), "macro_f1": macro_f1(table),
            "loss": float(-np.log(np.maximum(chosen, 1e-12)).mean()), "recall": recall, "confusion": table.tolist()}
