"""Learning from the labels alone: teachers, and the control arm beside every student."""

from torch import Tensor
from torch.nn import functional as F

from kd.methods.base import MethodFacts
from kd.observation import Observation


class Supervised:
    """Cross-entropy with the labels."""

    facts = MethodFacts("Supervised", "", "Cross-entropy with the labels, no teacher. The control arm.", {})
    needs_teacher = False

    def __call__(self, student: Observation, teacher: Observation | None, target: Tensor) -> dict[str, Tensor]:
        return {"hard": F.cross_entropy(student.logits, target)}
