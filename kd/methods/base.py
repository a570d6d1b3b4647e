"""Base class of the distillation methods, and `Supervised`, the method without a teacher."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from kd.observation import Observation

TeacherOutputs = Mapping[str, Tensor]
"""Outputs of a teacher by name (`kd.observation.select_output`), each [B, …], float32, without gradient."""
Shapes = tuple[tuple[int, int, int], ...]
"""(channels, height, width) of every stage of a model, from the input side."""


@dataclass(frozen=True)
class Hyperparameter:
    """One hyper-parameter of a method: default, inclusive range, and its meaning. advanced: whether the form puts it
    among those that are rarely changed."""

    default: float
    low: float
    high: float
    help: str
    advanced: bool = False


@dataclass(frozen=True)
class MethodInfo:
    """Description of a method for forms and flags.

    binary_note: one sentence on what differs for two classes; with `multiclass_only`, why it cannot be used there.
    """

    title: str
    paper: str
    summary: str
    hyperparameters: dict[str, Hyperparameter]
    binary_note: str = ""
    multiclass_only: bool = False


class Method(nn.Module):
    """Base class of all methods. Called once per batch; its terms are already weighted: their sum is the loss.

    The keywords of its constructor are its hyper-parameters. Modules that are trained with the student (a projector)
    are its own parameters: saved in the resume state, never part of the exported student.
    """

    info: ClassVar[MethodInfo]
    needs_teacher: ClassVar[bool] = True
    needs_cams: ClassVar[bool] = False  # whether the student's observation shall carry class activation maps
    needs_mask_net: ClassVar[bool] = False  # whether the student must have a mask network in front of it
    warmup_fraction: ClassVar[float] = 0.0
    """Share of the training over which the loss still changes: the best epoch is chosen after it."""
    needs_label: ClassVar[bool] = False
    """Whether what it takes from the teacher depends on the image's label, so that it cannot learn from an image
    without one, nor from a mixture of two."""
    compares_batch: ClassVar[bool] = False  # whether a term compares the images of a batch with one another

    def setup(self, student: Shapes, teacher: Shapes) -> None:
        """Create what depends on the two models' stages. Called once, before anything else.

        student, teacher: shapes of their stages at the working size.
        """

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        """Names of the teacher outputs that the method needs; known once `setup` has been called."""
        return ("logits",)

    @classmethod
    def needs_logits_only(cls) -> bool:
        """Whether the teacher's logits are all that it needs: then they may come from other networks."""
        return cls.needs_teacher and not cls.needs_mask_net and cls.teacher_outputs is Method.teacher_outputs

    def forward_kwargs(self, progress: float) -> dict[str, Any]:
        """Keywords of the student's forward pass. progress: as in `forward`."""
        return {"cams": self.needs_cams, "stages": self.needs_stages}

    @property
    def needs_stages(self) -> bool:
        """Whether the student's observation shall carry the features of its stages."""
        return any(":" in name for name in self.teacher_outputs)

    def soften(self, logits: Tensor) -> Tensor:
        """Probabilities [B, K] that a student imitates, of its teacher's logits [B, K]."""
        return F.softmax(logits / getattr(self, "temperature", 1.0), dim=1)

    @abstractmethod
    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        """The weighted loss terms {name: scalar}, each a mean over the batch.

        teacher: the outputs in `teacher_outputs`, empty without a teacher, and with a mask network `mask_target`, the
        maps [B, h, w] that it learns to point at. target: labels [B] or shares of the classes [B, K], as in
        `hard_loss`.
        progress: the share of the training that is done after this epoch, in (0, 1].
        """


def hard_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits [B, K] with labels [B], or with shares of the classes [B, K], mean over the images that
    have a label (none: −1, or shares of 0); 0 where no image has one."""
    if target.ndim == 1:
        total, labelled = F.cross_entropy(logits, target, ignore_index=-1, reduction="sum"), target >= 0
    else:
        total, labelled = F.cross_entropy(logits, target.to(logits.dtype), reduction="sum"), target.any(dim=1)
    return total / labelled.sum().clamp_min(1)


class Supervised(Method):
    """Cross-entropy with the labels."""

    info = MethodInfo("Supervised", "", "Cross-entropy with the labels, no teacher. The control arm.", {})
    needs_teacher = False

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return ()

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        return {"hard": hard_loss(student.logits, target)}
