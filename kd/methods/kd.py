"""Soft-target distillation, as KD-FMV writes it."""

from torch import Tensor
from torch.nn import functional as F

from kd import losses
from kd.methods.base import Knob, Method, MethodFacts, TeacherOutputs
from kd.observation import Observation


class SoftTargets(Method):
    """`α·CE(z_s, y) + (1−α)·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T))` (Hinton 2015; KD-FMV, AAAI-25).

    The KL is summed over classes and averaged over the batch; T² keeps its gradient's size independent of T.
    """

    info = MethodFacts(
        "Soft targets (KD)", "Hinton 2015, arXiv 1503.02531; KD-FMV, arXiv 2502.15959",
        "The student imitates the teacher's softened probabilities as well as the labels.",
        {"alpha": Knob(0.1, 0.0, 1.0, "α, the share of the hard loss; 1 is the control. KD-FMV tries 0.4 and 0.7."),
         "temperature": Knob(4.0, 0.5, 50.0, "T, softens both models' probabilities. KD-FMV tries 5, 10 and 15.")})

    def __init__(self, alpha: float = 0.1, temperature: float = 4.0) -> None:
        super().__init__()
        self.alpha, self.temperature = alpha, temperature

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        soft = losses.kd(student.logits, teacher["logits"], self.temperature)
        return {"hard": self.alpha * F.cross_entropy(student.logits, target), "soft": (1 - self.alpha) * soft}
