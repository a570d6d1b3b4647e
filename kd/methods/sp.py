"""Which images of a batch look alike to the teacher."""

from torch import Tensor
from torch.nn import functional as F

from kd import losses
from kd.methods.base import Knob, Method, MethodFacts, Shapes, TeacherOutputs
from kd.observation import Observation


class SimilarityPreserving(Method):
    """`CE(z_s, y) + γ·‖G_s − G_t‖²_F / B²`, G = F·Fᵀ of the last stage's features F [B, C·H·W], each row of length 1
    (Tung 2019, arXiv 1907.09682). No shapes need to agree, so no projector.
    """

    info = MethodFacts(
        "Similarity-preserving (SP)", "Tung 2019, arXiv 1907.09682",
        "Images of a batch that look alike to the teacher's last stage shall look alike to the student's.",
        {"weight": Knob(3000.0, 0.0, 100_000.0, "γ, weight of the similarities' mean squared difference.")})
    compares_batch = True

    def __init__(self, weight: float = 3000.0) -> None:
        super().__init__()
        self.weight, self.theirs = weight, -1

    def setup(self, student: Shapes, teacher: Shapes) -> None:
        self.theirs = len(teacher) - 1

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return (f"stage:{self.theirs}",)

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        apart = losses.sp(student.stages[-1], teacher[f"stage:{self.theirs}"])
        return {"hard": F.cross_entropy(student.logits, target), "similarity": self.weight * apart}
