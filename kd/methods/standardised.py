"""Soft targets after both models' logits have been brought to one scale."""

from torch import Tensor
from torch.nn import functional as F

from kd import losses
from kd.methods.base import Knob, Method, MethodFacts, TeacherOutputs
from kd.observation import Observation


class StandardisedTargets(Method):
    """`h·CE(z_s, y) + w·T²·KL(softmax(ẑ_t/T) ‖ softmax(ẑ_s/T))`, ẑ = (z − mean)/(std + 1e-7) over the classes of an
    image, std unbiased (Sun 2024, arXiv 2403.01427).

    The student need not reach the size of its teacher's logits, only their order and relations.
    """

    info = MethodFacts(
        "Standardised logits", "Sun 2024, arXiv 2403.01427",
        "As soft targets, with each image's logits first brought to mean 0 and deviation 1 in both models.",
        {"hard_weight": Knob(0.1, 0.0, 10.0, "Weight of the hard loss."),
         "weight": Knob(9.0, 0.0, 100.0, "Weight of the soft loss."),
         "temperature": Knob(2.0, 0.5, 50.0, "T, softens both models' probabilities.")},
        two_classes="brought to one scale, two logits are always −0.71 and 0.71, so the student would learn nothing "
                    "from its teacher. Choose soft targets (kd).",
        refuses_two=True)

    def __init__(self, hard_weight: float = 0.1, weight: float = 9.0, temperature: float = 2.0) -> None:
        super().__init__()
        self.hard_weight, self.weight, self.temperature = hard_weight, weight, temperature

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        soft = losses.logit_std(student.logits, teacher["logits"], self.temperature)
        return {"hard": self.hard_weight * F.cross_entropy(student.logits, target), "soft": self.weight * soft}
