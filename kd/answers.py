"""What finished runs answered on their test set: read from disk, set beside each other, without torch."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.errors import unknown
from kd.runs import Run

ALL, LOST, GAINED, BOTH_WRONG, DISAGREE = CASES = (
    "all images", "teacher right, student wrong", "student right, teacher wrong", "both wrong", "answers differ")


@dataclass(frozen=True, eq=False)
class Answers:
    """Predicted and true class [N] of every test image, and the images' names."""

    predicted: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.predicted == self.labels)


def answers(run: Run) -> Answers | None:
    """The run's answers on test, or None before it was tested."""
    stored = _stored(run)
    if stored is None:
        return None
    return Answers(stored["logits"].argmax(axis=1), stored["labels"], tuple(map(str, stored["names"])))


def logits(run: Run) -> NDArray[np.float32] | None:
    """The run's logits [N, K] on test, or None before it was tested."""
    stored = _stored(run)
    return None if stored is None else stored["logits"]


def _stored(run: Run) -> dict[str, NDArray[Any]] | None:
    try:
        content = (run.path / "predictions.npz").read_bytes()
    except FileNotFoundError:
        return None
    with np.load(io.BytesIO(content)) as stored:
        return dict(stored)


def pick(case: str, teacher: Answers, student: Answers) -> NDArray[np.int64]:
    """Numbers of the test images of one of CASES, ascending. Raises UsageError for another name."""
    chosen = {ALL: np.ones(len(teacher.labels), bool), LOST: teacher.right & ~student.right,
              GAINED: student.right & ~teacher.right, BOTH_WRONG: ~teacher.right & ~student.right,
              DISAGREE: teacher.predicted != student.predicted}
    if case not in chosen:
        raise unknown("kind of case", case, CASES)
    return np.flatnonzero(chosen[case])


@dataclass(frozen=True)
class Difference:
    """How many percentage points more of the same images `first` got right than `second`; margin: 95 %."""

    points: float
    margin: float
    images: int

    @property
    def told(self) -> bool:
        """Whether it is more than chance would do (two-sided, 5 %)."""
        return abs(self.points) > self.margin


def difference(first: Answers, second: Answers) -> Difference:
    """Of two models on the same test images, paired, so that images both get right or wrong add no noise.

    The margin is 1.96 standard errors of the mean of the differences (McNemar's setting, normal approximation).
    """
    change = first.right.astype(np.float64) - second.right.astype(np.float64)
    spread = float(change.std(ddof=1)) if len(change) > 1 else float("nan")
    return Difference(100 * float(change.mean()), 196 * spread / len(change) ** 0.5, len(change))


@dataclass(frozen=True)
class Arm:
    """One row of a distillation's result. accuracy, macro_f1: test, 0..1. lighter: teacher's FLOPs by these; smaller:
    teacher's parameters by these. gain: accuracy against the teacher, in points."""

    role: str
    run: Run
    accuracy: float
    macro_f1: float
    parameters: int
    flops: int
    seconds: float
    lighter: float
    smaller: float
    gain: float


@dataclass(frozen=True)
class Outcome:
    """What a finished distillation came to. kept: student against teacher; bought: student against control."""

    arms: tuple[Arm, ...]
    kept: Difference
    bought: Difference

    @property
    def student(self) -> Arm:
        return self.arms[-1]


def outcome(teacher: Run, control: Run, student: Run) -> Outcome | None:
    """The result of three finished runs, or None while one is not."""
    summaries = [run.summary for run in (teacher, control, student)]
    found = [answers(run) for run in (teacher, control, student)]
    first = summaries[0]
    if first is None or None in summaries or any(one is None for one in found):
        return None
    arms = tuple(_arm(role, run, run.summary or {}, first) for role, run in
                 (("teacher", teacher), ("control", control), ("student", student)))
    by_teacher, by_control, by_student = (one for one in found if one)
    return Outcome(arms, difference(by_student, by_teacher), difference(by_student, by_control))


def _arm(role: str, run: Run, summary: dict[str, Any], teacher: dict[str, Any]) -> Arm:
    return Arm(role, run, summary["accuracy"], summary["macro_f1"], summary["parameters"], summary["flops"],
               summary["seconds"], teacher["flops"] / summary["flops"], teacher["parameters"] / summary["parameters"],
               100 * (summary["accuracy"] - teacher["accuracy"]))
