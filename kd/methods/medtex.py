"""MED-TEX: a student and the mask network in front of it, trained together from a teacher's outputs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses import kd as soft_loss
from kd.methods.base import Hyperparameter, Method, MethodInfo, Shapes, TeacherOutputs, hard_loss
from kd.observation import MaskSampling, Observation
from kd.torch_utils.resize import upsample


class MEDTEX(Method):
    """Mask network and student trained together from the teacher's outputs (after Nguyen-Duc 2022, arXiv 2008.02593).

    The student sees `x̃ = m⊙x + (1−m)⊙b`; m shows the share of the image that the mask network ranks highest. p_t and
    p_s are the two models' probabilities, s the log-odds of the places and q their target, a map that sums to 1:

    - target: `−Σ q·log softmax(s)`, over the places of each image that has a target: where the teacher's answer is
      sensitive, or the outlines of the evidence (`RunSpec.mask_target`), to the power `sharpness`, so that the peaks
      of a diffuse map count. It alone trains the mask network.
    - information: `T²·KL(p_t(x) ‖ p_s(x̃))` at temperature T. Its negative is, up to the teacher's entropy, the
      variational lower bound of the mutual information between the teacher's output on x and the student's on x̃.
    - hard: cross-entropy with the labels.
    - features: the information bound between the last stages with a Gaussian decoder of learnt variance (as VID, Ahn
      2019, arXiv 1904.05835).

    The student learns under its own mask and under one of random area. In the paper the student's loss trains the mask
    network; a mask network trained so encodes the class in the shape of its mask, without regard to evidence (Jethani
    2021, arXiv 2103.01890), and one trained by the teacher's answers to masked images pointed no better than chance.
    """

    info = MethodInfo(
        "Explainer and student (MED-TEX)",
        "Nguyen-Duc 2022, arXiv 2008.02593",
        "A mask is learnt that shows the student only the part of the image that its teacher is sensitive to: a "
        "student that explains itself.",
        {
            "alpha": Hyperparameter(
                0.1, 0.0, 1.0, "α, the share of the hard loss; the rest is for the teacher's answer."
            ),
            "temperature": Hyperparameter(
                4.0, 0.5, 50.0, "T, softens both models' probabilities for the student's loss."
            ),
            "target_weight": Hyperparameter(
                1.0, 0.0, 100.0, "Weight of: the mask network ranks the places as its target does.", advanced=True
            ),
            "sharpness": Hyperparameter(
                3.0, 1.0, 10.0, "Power to which the target is raised: larger means its peaks count more.", advanced=True
            ),
            "widest": Hyperparameter(
                1.0,
                0.01,
                1.0,
                "Share of the image up to which a second, random mask of each image is widened; the student learns "
                "under both.",
                advanced=True,
            ),
            "features": Hyperparameter(
                0.0, 0.0, 100.0, "Weight of the information between the last stages' features.", advanced=True
            ),
        },
    )
    needs_mask_net = True

    def __init__(self, alpha: float = 0.1, temperature: float = 4.0, target_weight: float = 1.0,
                 sharpness: float = 3.0, widest: float = 1.0, features: float = 0.0) -> None:
        super().__init__()
        self.alpha, self.temperature, self.target_weight = alpha, temperature, target_weight
        self.sharpness, self.widest, self.features = sharpness, widest, features
        self.theirs = -1
        self.decoder: nn.Module = nn.Identity()

    def setup(self, student: Shapes, teacher: Shapes) -> None:
        self.theirs = len(teacher) - 1
        if self.features:
            self.decoder = _Gaussian(student[-1][0], teacher[-1][0])

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return ("logits", f"stage:{self.theirs}") if self.features else ("logits",)

    def forward_kwargs(self, progress: float) -> dict[str, Any]:
        return {**super().forward_kwargs(progress), "drawing": MaskSampling(self.widest)}

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        assert student.mask_samples is not None, "the forward pass was called without mask sampling"
        samples = student.mask_samples
        logits = torch.cat([student.logits, samples.answers])
        terms = {"hard": self.alpha * hard_loss(logits, target.repeat(2)),
                 "information": (1 - self.alpha) * soft_loss(logits, teacher["logits"].repeat(2, 1), self.temperature),
                 "target": self.target_weight * _ranking_gap(samples.scores,
                                                             teacher["mask_target"] ** self.sharpness)}
        if self.features:
            terms["features"] = self.features * self.decoder(student.stages[-1], teacher[f"stage:{self.theirs}"])
        return terms


class _Gaussian(nn.Module):
    """`mean (F_t − μ(F_s))² / 2σ² + log σ`, μ a 1×1 convolution of the student's features and σ² a variance per
    channel, both learnt. Below 0 where a channel is predicted closely."""

    LEAST = 1e-3  # of the variance: a channel that never changes would have none

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.mean = nn.Conv2d(before, after, 1)
        self.log_variance = nn.Parameter(torch.zeros(after))

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        guess = self.mean(upsample(ours, (theirs.shape[-2], theirs.shape[-1])))
        variance = self.log_variance.exp()[:, None, None] + self.LEAST
        return ((theirs - guess).square() / variance + variance.log()).mean() / 2


def _ranking_gap(scores: Tensor, target: Tensor) -> Tensor:
    """`−Σ q·log softmax(s)`, mean over the images with a target; 0 where none has one.

    scores: log-odds s [B, h, w]. target: maps of 0 or more [B, h', w'], made q [B, h, w]; all 0 for an image without.
    """
    wanted = F.adaptive_avg_pool2d(target[:, None], (scores.shape[1], scores.shape[2])).flatten(1)
    total = wanted.sum(dim=1, keepdim=True)
    known = total[:, 0] > 0
    gaps = -(wanted / total.clamp_min(1e-12) * scores.flatten(1).log_softmax(dim=1)).sum(dim=1)
    return gaps.where(known, 0.0).sum() / known.sum().clamp_min(1)
