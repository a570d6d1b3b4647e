"""Predictions of finished runs on their test split, read from `predictions.npz` without torch."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kd.errors import unknown
from kd.store import run_files
from kd.store.runs import Run

FILE = run_files.PREDICTIONS
ALL, STUDENT_WRONG, TEACHER_WRONG, BOTH_WRONG, DISAGREE = CASES = (
    "all images", "teacher right, student wrong", "student right, teacher wrong", "both wrong", "answers differ")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits [N, K] and true class [N] of every test image, their names, and their patients where these are known."""

    logits: NDArray[np.floating]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Predicted class [N]."""
        return np.asarray(self.logits.argmax(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.predicted == self.labels)

    def same_images(self, other: "Predictions") -> bool:
        """Whether both are predictions for the same images, in the same order."""
        return self.names == other.names and np.array_equal(self.labels, other.labels)


def load(run: Run) -> Predictions | None:
    """The run's predictions on the test split; None before it was tested, or where their file is damaged."""
    stored = run_files.predictions(run.path / FILE).value
    if stored is None:
        return None
    groups = tuple(map(str, stored.get("groups", ()))) or None  # missing in runs of an older version
    return Predictions(stored["logits"], stored["labels"], tuple(map(str, stored["names"])), groups)


def select_cases(case: str, teacher: Predictions, student: Predictions) -> NDArray[np.int64]:
    """Indices of the test images of one of CASES, ascending. Raises UsageError for another name."""
    chosen = {ALL: np.ones(len(teacher.labels), bool), STUDENT_WRONG: teacher.right & ~student.right,
              TEACHER_WRONG: student.right & ~teacher.right, BOTH_WRONG: ~teacher.right & ~student.right,
              DISAGREE: teacher.predicted != student.predicted}
    if case not in chosen:
        raise unknown("kind of case", case, CASES)
    return np.flatnonzero(chosen[case])
