"""Scores of out-of-fold soft targets, as a student's run records them: how often they were right, and corrected."""

from collections.abc import Mapping
from typing import Any

from kd.spec import OUT_OF_FOLD
from kd.store.runs import Run

ACCURACY = "target_accuracy"  # in an epoch's event: share of its soft targets that were right before correction
ENTRY = "out_of_fold"  # in a summary


def summary_entry(run: Run) -> dict[str, Any]:
    """Entry of a student's summary on its out-of-fold targets, over all epochs: number of folds, accuracy, corrected
    share; empty where its soft targets are others."""
    found = [epoch[ACCURACY] for epoch in run.epochs() if ACCURACY in epoch]
    if not found:
        return {}
    accuracy = sum(found) / len(found)
    corrected = 1 - accuracy if run.spec.soft_targets == OUT_OF_FOLD else 0.0
    return {ENTRY: {"folds": run.spec.folds, "accuracy": accuracy, "corrected": corrected}}


def sentence(summary: Mapping[str, Any] | None) -> str:
    """The scores of a finished run in one sentence; empty where its soft targets are others."""
    found = (summary or {}).get(ENTRY)
    if not found:
        return ""
    others = "for the others the label was put on top" if found["corrected"] else "the others were learnt as they are"
    return (f"Out-of-fold soft targets of {found['folds']} networks: right for {100 * found['accuracy']:.1f} % of the "
            f"training views, {others}.")
