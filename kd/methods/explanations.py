"""Distillation of explanations: class attention transfer (CAT-KD) and e2KD."""

from torch import Tensor

from kd import losses
from kd.methods.base import Hyperparameter, Method, MethodInfo, TeacherOutputs, hard_loss
from kd.observation import Observation, select_output


class CATKD(Method):
    """`CE(z_s, y) + β·MSE(pool_r CAM_s, pool_r CAM_t)`, CAM_k = Σ_c w_kc·F_c for every class k, average-pooled to r × r
    (Guo 2023, arXiv 2304.12777, CAT-KD); to the coarser grid of the two models where that has fewer units than r.
    """

    info = MethodInfo(
        "Class attention (CAT-KD)",
        "Guo 2023, arXiv 2304.12777",
        "The student finds the evidence for and against every class where its teacher does, and as much of it.",
        {
            "weight": Hyperparameter(
                15.0,
                0.0,
                10_000.0,
                "β. How large the maps are differs between models: choose it so that the "
                "term is 1 to 50 after the first epoch. The paper takes 15 for small images, 0.5 for "
                "ImageNet.",
            ),
            "pool": Hyperparameter(
                2.0,
                1.0,
                64.0,
                "r, units per side that the maps are averaged to. The paper takes 2 for small images, 4 for ImageNet.",
            ),
        },
    )
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
        return {"hard": hard_loss(student.logits, target), "cam": self.weight * apart}


class E2KD(Method):
    """`α·CE(z_s, y) + T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)) + λ·(1 − cos(E_t, E_s))`, E the Grad-CAM (positive part)
    of the teacher's top class in either model, on the coarser grid of the two (Parchami-Araghi 2024, arXiv 2402.03119,
    e²KD).

    An image whose teacher map is blank contributes 0.
    """

    info = MethodInfo(
        "Explanation-enhanced (e²KD)",
        "Parchami-Araghi 2024, arXiv 2402.03119",
        "Soft targets, and the student's Grad-CAM of its teacher's answer shall be its teacher's.",
        {
            "alpha": Hyperparameter(0.1, 0.0, 1.0, "α, weight of the hard loss."),
            "temperature": Hyperparameter(4.0, 0.5, 50.0, "T, softens both models' probabilities."),
            "weight": Hyperparameter(
                1.0, 0.0, 1000.0, "λ, weight of one minus the maps' cosine. To be tuned per data set."
            ),
        },
    )
    needs_cams = True

    def __init__(self, alpha: float = 0.1, temperature: float = 4.0, weight: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.temperature, self.weight = alpha, temperature, weight

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return ("logits", "cams")

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        explanation = losses.e2kd(select_output(student, "cams"), teacher["cams"], teacher["logits"])
        return {"hard": self.alpha * hard_loss(student.logits, target),
                "soft": losses.kd(student.logits, teacher["logits"], self.temperature),
                "explanation": self.weight * explanation}
