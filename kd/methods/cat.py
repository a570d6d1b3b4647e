"""The teacher's evidence for every class."""

from torch import Tensor
from torch.nn import functional as F

from kd import losses
from kd.methods.base import Knob, Method, MethodFacts, TeacherOutputs
from kd.observation import Observation, select_output


class ClassAttention(Method):
    """`CE(z_s, y) + β·MSE(pool_r CAM_s, pool_r CAM_t)`, CAM_k = Σ_c w_kc·F_c for every class k, average-pooled to r × r
    (Guo 2023, arXiv 2304.12777, CAT-KD); to the coarser grid of the two models where that has fewer units than r.
    """

    info = MethodFacts(
        "Class attention (CAT-KD)", "Guo 2023, arXiv 2304.12777",
        "The student finds the evidence for and against every class where its teacher does, and as much of it.",
        {"weight": Knob(15.0, 0.0, 10_000.0, "β. How large the maps are differs between models: choose it so that the "
                        "term is 1 to 50 after the first epoch. The paper takes 15 for small images, 0.5 for "
                        "ImageNet."),
         "pool": Knob(2.0, 1.0, 64.0, "r, units per side that the maps are averaged to. The paper takes 2 for small "
                      "images, 4 for ImageNet.")})
    needs_cams = True

    def __init__(self, weight: float = 15.0, pool: float = 2.0) -> None:
        super().__init__()
        self.weight, self.pool = weight, round(pool)

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return ("cams",)

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        apart = losses.cat_kd(select_output(student, "cams"), teacher["cams"], self.pool)
        return {"hard": F.cross_entropy(student.logits, target), "cam": self.weight * apart}
