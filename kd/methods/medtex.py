"""MED-TEX: a student and the mask network in front of it, trained together from a teacher's outputs."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses import kd as soft_loss
from kd.methods.base import Hyperparameter, Method, MethodInfo, Shapes, TeacherOutputs
from kd.observation import MaskSampling, Observation
from kd.torch_utils.resize import upsample

WARM_UP = 0.3  # share of the training over which the mask penalty rises: at once it would close an untrained mask
# Share of the training after which the mask area hardly falls further, measured in runs of 12 and 20 epochs. Of the
# epochs before, validation would choose the one with the largest area.
SETTLED = 0.7
# Largest distance of the teacher's top logit from the mean of the others; a fine-tuned teacher's 20 would outweigh all
# other terms.
SURE = 6.0
START = 1.0  # temperature of the relaxation at the beginning


class MEDTEX(Method):
    """Mask network and student trained together from the teacher's outputs (Nguyen-Duc 2022, arXiv 2008.02593).

    The student sees `x̃ = m⊙x + (1−m)⊙b`; m is the predicted mask, p_t and p_s are the two models' probabilities:

    - information: `T²·KL(p_t(x) ‖ p_s(x̃))` at temperature T. Its negative is, up to the teacher's entropy, the
      variational lower bound of the mutual information between the teacher's output on x and the student's on x̃.
    - sufficiency, comprehensiveness (DeYoung 2020, arXiv 1911.03429): `KL(p_t(x) ‖ p_t(x̃))` and
      `−log(1 − p_t(k|x̂))`, x̂ = (1−m)⊙x + m⊙b, k the teacher's class: the same bound with the frozen teacher as
      decoder, and absence of its class from the complement of the mask. Both at a temperature, at least 1, that limits
      the teacher's logits on x. The teacher is queried live for those of the two with a weight above 0.
    - mask_penalty: `mean KL(Bernoulli(m) ‖ Bernoulli(r))` over places, warmed up.
    - hard: cross-entropy with the labels. total_variation: that of m. features: the information bound between the
      last stages with a Gaussian decoder of learnt variance (as VID, Ahn 2019, arXiv 1904.05835), of the student under
      its mean mask: it trains the student and never the mask network, whatever `student_gradient` is.

    In the paper the student's loss alone trains the mask network (`student_gradient` = 1, `sufficiency` =
    `comprehensiveness` = 0). A mask network trained so encodes the class in the shape of its mask, without regard to
    evidence (Jethani 2021, arXiv 2103.01890). Here the frozen teacher trains it, and the student is also trained on
    random masks, as in that paper.
    """

    info = MethodInfo(
        "Explainer and student (MED-TEX)",
        "Nguyen-Duc 2022, arXiv 2008.02593",
        "A mask is learnt that shows the student no more than what its teacher's answer rests on: a student that "
        "explains itself.",
        {
            "mask_prior": Hyperparameter(
                0.02,
                0.001,
                0.5,
                "r, the chance of being shown that a place is drawn towards. Smaller masks say more and show less.",
            ),
            "mask_penalty": Hyperparameter(2.0, 0.0, 100.0, "Weight of the pull towards r; 0 leaves the mask open."),
            "sufficiency": Hyperparameter(
                2.0, 0.0, 100.0, "Weight of: the teacher answers the same when it is shown only what the mask leaves."
            ),
            "comprehensiveness": Hyperparameter(
                1.0, 0.0, 100.0, "Weight of: the teacher's class is gone when it is shown only the rest."
            ),
            "alpha": Hyperparameter(
                0.1, 0.0, 1.0, "α, the share of the hard loss; the rest is for the teacher's answer."
            ),
            "temperature": Hyperparameter(
                4.0, 0.5, 50.0, "T, softens both models' probabilities for the student's loss."
            ),
            "total_variation": Hyperparameter(
                0.0, 0.0, 100.0, "Weight of the mask's total variation: larger is smoother.", advanced=True
            ),
            "features": Hyperparameter(
                0.0,
                0.0,
                100.0,
                "Weight of the information between the last stages' features; it teaches the student only.",
                advanced=True,
            ),
            "samples": Hyperparameter(
                1.0, 1.0, 8.0, "Masks drawn per image and step; the teacher sees each once.", advanced=True
            ),
            "concrete_temperature": Hyperparameter(
                0.3,
                0.05,
                2.0,
                "Temperature of the drawn masks at the end; it starts at 1. Towards 0 a place is shown or not.",
                advanced=True,
            ),
            "student_gradient": Hyperparameter(
                0.0,
                0.0,
                1.0,
                "Share of the gradient of the student's answers that reaches the explainer. 1 as "
                "in the paper; then the mask may spell the class instead of showing evidence.",
                advanced=True,
            ),
        },
    )
    needs_mask_net = True
    warmup_fraction = SETTLED

    def __init__(
        self,
        mask_prior: float = 0.02,
        mask_penalty: float = 2.0,
        sufficiency: float = 2.0,
        comprehensiveness: float = 1.0,
        alpha: float = 0.1,
        temperature: float = 4.0,
        total_variation: float = 0.0,
        features: float = 0.0,
        samples: float = 1.0,
        concrete_temperature: float = 0.3,
        student_gradient: float = 0.0,
    ) -> None:
        super().__init__()
        self.mask_prior, self.mask_penalty, self.sufficiency, self.comprehensiveness = (
            mask_prior, mask_penalty, sufficiency, comprehensiveness)
        self.alpha, self.temperature, self.features = alpha, temperature, features
        self.total_variation = total_variation
        self.samples, self.concrete_temperature, self.student_gradient = (
            round(samples), concrete_temperature, student_gradient)
        self.theirs = -1
        self.decoder: nn.Module = nn.Identity()

    def setup(self, student: Shapes, teacher: Shapes) -> None:
        self.theirs = len(teacher) - 1
        if self.features:
            self.decoder = _Gaussian(student[-1][0], teacher[-1][0])

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return ("logits", f"stage:{self.theirs}") if self.features else ("logits",)

    @property
    def live_queries(self) -> tuple[str, ...]:
        """Images of the terms with a weight above 0: the teacher's passes are the expensive part."""
        return tuple(name for name, weight in (("shown", self.sufficiency), ("rest", self.comprehensiveness)) if weight)

    def forward_kwargs(self, progress: float) -> dict[str, Any]:
        temperature = START * (self.concrete_temperature / START) ** progress
        return {**super().forward_kwargs(progress),
                "drawing": MaskSampling(temperature, self.samples, self.student_gradient)}

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        assert student.mask_samples is not None, "the forward pass was called without mask sampling"
        samples, reference = student.mask_samples, teacher["logits"]
        first, second = reference[:(len(reference) + 1) // 2], reference[len(reference) // 2:]
        logits = torch.cat([student.logits, samples.answers])
        soft = soft_loss(logits, _copied(reference, logits), self.temperature)
        warm = min(1.0, progress / WARM_UP)
        terms = {"hard": self.alpha * F.cross_entropy(logits, _copied(target, logits)),
                 "information": (1 - self.alpha) * soft}
        if self.sufficiency:
            terms["sufficiency"] = self.sufficiency * _sufficiency_gap(
                teacher["shown"], _copied(first, teacher["shown"]))
        if self.comprehensiveness:
            terms["comprehensiveness"] = self.comprehensiveness * _remaining_evidence(
                teacher["rest"], _copied(second, teacher["rest"]))
        terms["mask_penalty"] = warm * self.mask_penalty * _divergence(samples.scores, self.mask_prior)
        if self.total_variation:
            terms["total_variation"] = self.total_variation * _variation(samples.scores.sigmoid())
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


def _copied(rows: Tensor, like: Tensor) -> Tensor:
    """Rows [B, …] repeated to the length of `like` [N·B, …]."""
    return rows.repeat(len(like) // len(rows), *[1] * (rows.ndim - 1))


def _temperature(reference: Tensor) -> Tensor:
    """Temperature [B, 1], at least 1, at which the teacher's top logit is at most SURE above the mean of the others."""
    top = reference.amax(dim=1, keepdim=True)
    return ((top - reference).sum(dim=1, keepdim=True) / (reference.shape[1] - 1) / SURE).clamp_min(1.0)


def _sufficiency_gap(logits: Tensor, reference: Tensor) -> Tensor:
    """`KL(p_t(x) ‖ p)`, mean over rows. logits: the teacher's for the masked images [B, K]; reference: for the whole.
    """
    return soft_loss(logits / _temperature(reference), reference / _temperature(reference), 1.0)


def _remaining_evidence(logits: Tensor, reference: Tensor) -> Tensor:
    """`−log(1 − p_k)` of the teacher's class k, mean over rows, by the other classes' log-sum-exp: exact where p_k is
    nearly 1."""
    logits = logits / _temperature(reference)
    others = logits.scatter(1, reference.argmax(dim=1, keepdim=True), -math.inf).logsumexp(dim=1)
    return (logits.logsumexp(dim=1) - others).mean()


def _divergence(scores: Tensor, rate: float) -> Tensor:
    """Mean over places of KL(Bernoulli(σ(scores)) ‖ Bernoulli(rate)), in nats."""
    shown = scores.sigmoid()
    prior = math.log(rate / (1 - rate))
    # Σ p·log(p/q) with log σ(a) = a + log σ(−a): no logarithm of a rounded probability.
    return (shown * (scores - prior) + F.logsigmoid(-scores) - math.log(1 - rate)).mean()


def _variation(masks: Tensor) -> Tensor:
    """Total variation of masks [B, h, w]: mean absolute difference between neighbours."""
    down, across = masks.diff(dim=1).abs().mean(), masks.diff(dim=2).abs().mean()
    return down + across
