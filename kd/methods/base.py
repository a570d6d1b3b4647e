"""What a distillation method is: named loss terms between two observations and the labels."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from kd.observation import Observation


@dataclass(frozen=True)
class Knob:
    """One hyper-parameter of a method: default, inclusive range, and what it does."""

    default: float
    low: float
    high: float
    help: str


class Method(Protocol):
    """Called once per batch. Its terms are already weighted: their sum is the loss.

    student, teacher: observations of the same batch (the teacher's carry no gradient; None without a teacher).
    target: labels [B]. Returns {term name: scalar}, each a mean over the batch.
    """

    needs_teacher: bool

    def __call__(self, student: Observation, teacher: Observation | None, target: Tensor) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class MethodFacts:
    """What the form and the flags show of a method."""

    title: str
    paper: str
    summary: str
    knobs: dict[str, Knob]
