"""Where the teacher responds, stage by stage."""

from torch import Tensor
from torch.nn import functional as F

from kd import losses
from kd.methods.base import Knob, Method, MethodFacts, Shapes, TeacherOutputs
from kd.methods.stages import pairs
from kd.observation import Observation


class AttentionTransfer(Method):
    """`CE(z_s, y) + w·Σ_pairs mean((A_s − A_t)²)`, A = vec(mean_c F²)/‖·‖₂ of a stage's features F (Zagoruyko 2017,
    arXiv 1612.03928, p = 2). The larger map of a pair is average-pooled to the smaller before it is normalised.
    """

    info = MethodFacts(
        "Attention transfer (AT)", "Zagoruyko 2017, arXiv 1612.03928",
        "The student responds where its teacher does, at every stage that has a counterpart of its grid.",
        {"weight": Knob(1000.0, 0.0, 100_000.0, "Weight of the maps' mean squared difference; normalised maps are "
                        "small numbers.")})

    def __init__(self, weight: float = 1000.0) -> None:
        super().__init__()
        self.weight = weight
        self.pairs: tuple[tuple[int, int], ...] = ()

    def setup(self, student: Shapes, teacher: Shapes) -> None:
        self.pairs = pairs(student, teacher)

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return tuple(f"attention:{theirs}" for _, theirs in self.pairs)

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        hard = F.cross_entropy(student.logits, target)
        apart = [losses.at_maps(losses.attention_map(student.stages[ours]), teacher[f"attention:{theirs}"])
                 for ours, theirs in self.pairs]
        return {"hard": hard, "attention": self.weight * sum(apart, hard.new_zeros(()))}
