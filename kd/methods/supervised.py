"""Learning from the labels alone: teachers, and the control arm beside every student."""

from torch import Tensor
from torch.nn import functional as F

from kd.methods.base import Lesson, Method, MethodFacts
from kd.observation import Observation


class Supervised(Method):
    """Cross-entropy with the labels."""

    facts = MethodFacts("Supervised", "", "Cross-entropy with the labels, no teacher. The control arm.", {})
    needs_teacher = False

    @property
    def wants(self) -> tuple[str, ...]:
        return ()

    def forward(self, student: Observation, lesson: Lesson, target: Tensor, progress: float = 1.0) -> dict[str, Tensor]:
        return {"hard": F.cross_entropy(student.logits, target)}
