"""Logit distillation: KD, logit standardisation, DKD, DIST."""

from torch import Tensor

from kd import losses
from kd.methods.base import Hyperparameter, Method, MethodInfo, TeacherOutputs, hard_loss
from kd.observation import Observation


class KD(Method):
    """`α·CE(z_s, y) + (1−α)·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T))` (Hinton 2015; KD-FMV, AAAI-25).

    The KL is summed over classes and averaged over the batch; T² keeps its gradient's size independent of T.
    """

    info = MethodInfo(
        "Soft targets (KD)",
        "Hinton 2015, arXiv 1503.02531; KD-FMV, arXiv 2502.15959",
        "The student imitates the teacher's softened probabilities as well as the labels.",
        {
            "alpha": Hyperparameter(
                0.1, 0.0, 1.0, "α, the share of the hard loss; 1 is the control. KD-FMV tries 0.4 and 0.7."
            ),
            "temperature": Hyperparameter(
                4.0, 0.5, 50.0, "T, softens both models' probabilities. KD-FMV tries 5, 10 and 15."
            ),
        },
    )

    def __init__(self, alpha: float = 0.1, temperature: float = 4.0) -> None:
        super().__init__()
        self.alpha, self.temperature = alpha, temperature

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        soft = losses.kd(student.logits, teacher["logits"], self.temperature)
        return {"hard": self.alpha * hard_loss(student.logits, target), "soft": (1 - self.alpha) * soft}


class LogitStandardisation(Method):
    """`h·CE(z_s, y) + w·T²·KL(softmax(ẑ_t/T) ‖ softmax(ẑ_s/T))`, ẑ = (z − mean)/(std + 1e-7) over the classes of an
    image, std unbiased (Sun 2024, arXiv 2403.01427).

    The student need not match the scale of its teacher's logits, only their order and relations.
    """

    info = MethodInfo(
        "Standardised logits", "Sun 2024, arXiv 2403.01427",
        "As soft targets, with each image's logits first brought to mean 0 and deviation 1 in both models.",
        {"hard_weight": Hyperparameter(0.1, 0.0, 10.0, "Weight of the hard loss."),
         "weight": Hyperparameter(9.0, 0.0, 100.0, "Weight of the soft loss."),
         "temperature": Hyperparameter(2.0, 0.5, 50.0, "T, softens both models' probabilities.")},
        binary_note="brought to one scale, two logits are always −0.71 and 0.71, so the student would learn nothing "
                    "from its teacher. Choose soft targets (kd).",
        multiclass_only=True)

    def __init__(self, hard_weight: float = 0.1, weight: float = 9.0, temperature: float = 2.0) -> None:
        super().__init__()
        self.hard_weight, self.weight, self.temperature = hard_weight, weight, temperature

    def soften(self, logits: Tensor) -> Tensor:
        return super().soften(losses.standardised(logits))

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        soft = losses.logit_std(student.logits, teacher["logits"], self.temperature)
        return {"hard": self.hard_weight * hard_loss(student.logits, target), "soft": self.weight * soft}


class DKD(Method):
    """`CE(z_s, y) + warm·(a·TCKD + b·NCKD)` (Zhao 2022, arXiv 2203.08679).

    With p = softmax(z/T): TCKD = T²·KL([p_y, 1−p_y]_t ‖ [p_y, 1−p_y]_s); NCKD = T²·KL over the other K−1 classes,
    re-normalised. warm = min(progress/W, 1). KD weights NCKD by the teacher's 1 − p_y, so that it vanishes where the
    teacher is confident; here it has a weight of its own.
    """

    info = MethodInfo(
        "Decoupled soft targets (DKD)",
        "Zhao 2022, arXiv 2203.08679",
        "Imitates apart from each other how sure the teacher is of the right class, and how it ranks the rest.",
        {
            "target_weight": Hyperparameter(1.0, 0.0, 100.0, "a, weight of the right class against all others."),
            "non_target_weight": Hyperparameter(8.0, 0.0, 100.0, "b, weight of the other classes among themselves."),
            "temperature": Hyperparameter(4.0, 0.5, 50.0, "T, softens both models' probabilities."),
            "warm_up": Hyperparameter(
                0.08,
                0.0,
                1.0,
                "W, the share of the schedule over which both weights grow to their full "
                "size; 0 for none. A share, because schedules differ: the paper's 20 of 240 epochs are "
                "0.08.",
            ),
        },
        binary_note="On two classes there is one other class only, nothing to rank: decoupled targets become the hard "
        "loss plus soft targets, without the non-target term.",
    )

    needs_label = True

    def __init__(self, target_weight: float = 1.0, non_target_weight: float = 8.0, temperature: float = 4.0,
                 warm_up: float = 0.08) -> None:
        super().__init__()
        self.target_weight, self.non_target_weight = target_weight, non_target_weight
        self.temperature, self.warm_up = temperature, warm_up

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        warm = min(progress / self.warm_up, 1.0) if self.warm_up else 1.0
        right, others = losses.dkd_parts(student.logits, teacher["logits"], target, self.temperature)
        terms = {"hard": hard_loss(student.logits, target),
                 "target": warm * self.target_weight * right}
        if student.logits.shape[1] > 2:
            terms["non-target"] = warm * self.non_target_weight * others
        return terms


class DIST(Method):
    """`CE(z_s, y) + w·τ²·[β·(1 − mean_i ρ(Y_s[i,:], Y_t[i,:])) + γ·(1 − mean_k ρ(Y_s[:,k], Y_t[:,k]))]`, Y =
    softmax(z/τ), ρ Pearson's correlation (Huang 2022, arXiv 2205.10536, DIST).

    Inter-class (β): correlation over the classes of an image. Intra-class (γ): correlation over the images of a batch,
    class by class; in a batch of two it is ±1 and has no gradient.
    """

    info = MethodInfo(
        "Relations (DIST)",
        "Huang 2022, arXiv 2205.10536",
        "Imitates how the teacher orders classes within an image and images within a class, not its values.",
        {
            "weight": Hyperparameter(2.0, 0.0, 100.0, "w, weight of both relations."),
            "inter": Hyperparameter(1.0, 0.0, 100.0, "β, share of the relations between the classes of one image."),
            "intra": Hyperparameter(
                1.0, 0.0, 100.0, "γ, share of the relations between the images of a batch, class by class."
            ),
            "temperature": Hyperparameter(
                4.0,
                0.5,
                50.0,
                "τ, softens both models' probabilities. The paper takes 4 for small images, 1 for ImageNet.",
            ),
        },
        binary_note="Two numbers always correlate by 1 or −1, so on two classes DIST's relations within an image teach "
        "nothing: only those within a class are learnt.",
    )
    compares_batch = True

    def __init__(self, weight: float = 2.0, inter: float = 1.0, intra: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.weight, self.inter, self.intra, self.temperature = weight, inter, intra, temperature

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        inter, intra = losses.dist_parts(student.logits, teacher["logits"], self.temperature)
        terms = {"hard": hard_loss(student.logits, target)}
        if student.logits.shape[1] > 2:
            terms["inter"] = self.weight * self.inter * inter
        terms["intra"] = self.weight * self.intra * intra
        return terms
