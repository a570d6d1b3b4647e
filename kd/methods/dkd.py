"""Soft targets taken apart: how sure of the right class, and what the others are worth among themselves."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd.methods.base import Knob, Lesson, Method, MethodFacts
from kd.observation import Observation


class DecoupledTargets(Method):
    """`CE(z_s, y) + warm·(a·TCKD + b·NCKD)` (Zhao 2022, arXiv 2203.08679).

    With p = softmax(z/T): TCKD = T²·KL([p_y, 1−p_y]_t ‖ [p_y, 1−p_y]_s); NCKD = T²·KL over the other K−1 classes,
    re-normalised. warm = min(progress/W, 1). Soft targets weigh NCKD by 1 − p_y of the teacher, so that it is lost
    where the teacher is sure; here it has a weight of its own.
    """

    facts = MethodFacts(
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

    def forward(self, student: Observation, lesson: Lesson, target: Tensor, progress: float = 1.0) -> dict[str, Tensor]:
        warm = min(progress / self.warm_up, 1.0) if self.warm_up else 1.0
        right, others = _apart(student.logits / self.temperature, target)
        right_t, others_t = _apart(lesson["logits"] / self.temperature, target)
        scale = warm * self.temperature**2
        terms = {"hard": F.cross_entropy(student.logits, target),
                 "target": scale * self.target_weight * _divergence(right, right_t)}
        if student.logits.shape[1] > 2:
            terms["non-target"] = scale * self.non_target_weight * _divergence(others, others_t)
        return terms


def _apart(scaled: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of scaled logits [B, K]: [right class, all others] [B, 2], and the others among themselves
    [B, K − 1]. Of logits, not of probabilities: 1 − p_y would be zero where a model is sure."""
    is_right = F.one_hot(target, scaled.shape[1]).bool()
    others = scaled[~is_right].view(len(scaled), -1)
    whole = torch.stack([scaled[is_right], others.logsumexp(dim=1)], dim=1)
    return F.log_softmax(whole, dim=1), F.log_softmax(others, dim=1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
