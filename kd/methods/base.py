"""What a distillation method is: named loss terms from a student's observation, the teacher's lesson and the labels."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from kd.observation import Observation

Lesson = Mapping[str, Tensor]
"""What a method sees of the teacher: aspects of it by name (`kd.observation.aspect`), each [B, …], without gradient."""
Shapes = tuple[tuple[int, int, int], ...]
"""(channels, height, width) of every stage of a model, from the input side."""


@dataclass(frozen=True)
class Knob:
    """One hyper-parameter of a method: default, inclusive range, and what it does. fine: whether the form puts it among
    those that most people leave alone."""

    default: float
    low: float
    high: float
    help: str
    fine: bool = False


@dataclass(frozen=True)
class MethodFacts:
    """What the form and the flags show of a method.

    two_classes: one sentence where it is another thing on two classes; with `refuses_two` why it cannot be had there.
    """

    title: str
    paper: str
    summary: str
    knobs: dict[str, Knob]
    two_classes: str = ""
    refuses_two: bool = False


class Method(nn.Module):
    """Base of every method. Called once per batch; its terms are already weighted: their sum is the loss.

    The keywords of its constructor are its hyper-parameters. What it learns beside the student (a projector) are its
    own parameters: trained along, kept in the resume state, never part of the student that is exported.
    """

    facts: ClassVar[MethodFacts]
    needs_teacher: ClassVar[bool] = True
    needs_cams: ClassVar[bool] = False  # whether the student's observation shall carry class activation maps
    needs_mask: ClassVar[bool] = False  # whether the student must have an explainer in front of it
    settles: ClassVar[float] = 0.0
    """Share of the training over which the loss still changes its meaning: no epoch before that is the one kept."""
    relational: ClassVar[bool] = False  # whether a term compares the images of a batch with one another

    def prepare(self, student: Shapes, teacher: Shapes) -> None:
        """Make what depends on the two models' stages. Called once, before anything else.

        student, teacher: shapes of their stages at the working size.
        """

    @property
    def wants(self) -> tuple[str, ...]:
        """The teacher's aspects that make up a lesson; known once `prepare` has been called."""
        return ("logits",)

    @property
    def asks(self) -> tuple[str, ...]:
        """Pictures that the student draws (`kd.observation.Drawn`) and the teacher is shown live: its logits,
        differentiable in the pictures, are in the lesson under the same names."""
        return ()

    def look(self, progress: float) -> dict[str, Any]:
        """How the student is to be looked at: keywords of its forward pass. progress: as in `forward`."""
        return {"cams": self.needs_cams, "stages": self.needs_stages}

    @property
    def needs_stages(self) -> bool:
        """Whether the student's observation shall carry the features of its stages."""
        return any(":" in name for name in self.wants)

    @abstractmethod
    def forward(self, student: Observation, lesson: Lesson, target: Tensor, progress: float = 1.0) -> dict[str, Tensor]:
        """The weighted loss terms {name: scalar}, each a mean over the batch.

        lesson: the aspects in `wants` and the answers to `asks`, empty without a teacher. target: labels [B]. progress:
        the share of the training that is done after this epoch, in (0, 1].
        """
