"""Learning from the labels alone: teachers, and the control arm beside every student."""

from torch import Tensor
from torch.nn import functional as F

from kd.methods.base import Method, MethodFacts, TeacherOutputs
from kd.observation import Observation


class Supervised(Method):
    """Cross-entropy with the labels."""

    info = MethodFacts("Supervised", "", "Cross-entropy with the labels, no teacher. The control arm.", {})
    needs_teacher = False

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return ()

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        return {"hard": F.cross_entropy(student.logits, target)}
