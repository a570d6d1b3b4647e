"""Soft targets taken apart: how sure of the right class, and what the others are worth among themselves."""

from torch import Tensor
from torch.nn import functional as F

from kd import losses
from kd.methods.base import Knob, Method, MethodFacts, TeacherOutputs
from kd.observation import Observation


class DecoupledTargets(Method):
    """`CE(z_s, y) + warm·(a·TCKD + b·NCKD)` (Zhao 2022, arXiv 2203.08679).

    With p = softmax(z/T): TCKD = T²·KL([p_y, 1−p_y]_t ‖ [p_y, 1−p_y]_s); NCKD = T²·KL over the other K−1 classes,
    re-normalised. warm = min(progress/W, 1). Soft targets weigh NCKD by 1 − p_y of the teacher, so that it is lost
    where the teacher is sure; here it has a weight of its own.
    """

    info = MethodFacts(
        "Decoupled soft targets (DKD)", "Zhao 2022, arXiv 2203.08679",
        "Imitates apart from each other how sure the teacher is of the right class, and how it ranks the rest.",
        {"target_weight": Knob(1.0, 0.0, 100.0, "a, weight of the right class against all others."),
         "non_target_weight": Knob(8.0, 0.0, 100.0, "b, weight of the other classes among themselves."),
         "temperature": Knob(4.0, 0.5, 50.0, "T, softens both models' probabilities."),
         "warm_up": Knob(0.08, 0.0, 1.0, "W, the share of the schedule over which both weights grow to their full "
                         "size; 0 for none. A share, because schedules differ: the paper's 20 of 240 epochs are "
                         "0.08.")},
        two_classes="On two classes there is one other class only, nothing to rank: decoupled targets become the hard "
                    "loss plus soft targets, without the non-target term.")

    def __init__(self, target_weight: float = 1.0, non_target_weight: float = 8.0, temperature: float = 4.0,
                 warm_up: float = 0.08) -> None:
        super().__init__()
        self.target_weight, self.non_target_weight = target_weight, non_target_weight
        self.temperature, self.warm_up = temperature, warm_up

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        warm = min(progress / self.warm_up, 1.0) if self.warm_up else 1.0
        right, others = losses.dkd_parts(student.logits, teacher["logits"], target, self.temperature)
        terms = {"hard": F.cross_entropy(student.logits, target),
                 "target": warm * self.target_weight * right}
        if student.logits.shape[1] > 2:
            terms["non-target"] = warm * self.non_target_weight * others
        return terms
