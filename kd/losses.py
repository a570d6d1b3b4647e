"""Distillation losses as plain functions of two models' outputs, as `kd.methods` trains with them.

Each is the distillation term of its paper: a scalar, a mean over the batch, without the cross-entropy with the labels
and without the paper's weight, which the caller adds: `F.cross_entropy(z, y) + weight * loss`. Logits are
[B, K], before softmax; features [B, C, H, W]. Take the teacher's under `torch.no_grad()`. All raise UsageError for
shapes that do not belong together.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kd.errors import UsageError

Features = Tensor | Sequence[Tensor]
"""One stage's features [B, C, H, W], or those of several stages."""

FLAT = 1e-6  # spread below which numbers are equal but for rounding

__all__ = ["at", "attention_map", "cat_kd", "dist", "dkd", "e2kd", "fitnet", "kd", "logit_std", "sp"]


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """Soft targets: `T²·KL(softmax(z_t/T) ‖ softmax(z_s/T))` (Hinton 2015, arXiv 1503.02531).

    The KL is summed over classes and averaged over the batch; T² keeps its gradient's size independent of T.
    """
    _require_alike(student_logits, teacher_logits, 2, "logits")
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * _divergence(log_student, log_teacher)


def logit_std(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """Soft targets of logits at mean 0 and unbiased standard deviation 1 per image (Sun 2024, arXiv 2403.01427).

    Without gradient on two classes, where standardised logits are always −0.71 and 0.71.
    """
    return kd(standardised(student_logits), standardised(teacher_logits), temperature)


def dkd(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, alpha: float = 1.0, beta: float = 8.0,
        temperature: float = 4.0) -> Tensor:
    """Decoupled soft targets: `α·TCKD + β·NCKD` (Zhao 2022, arXiv 2203.08679).

    labels: [B], int64. With p = softmax(z/T): TCKD = T²·KL([p_y, 1−p_y]_t ‖ [p_y, 1−p_y]_s), NCKD = T²·KL over the
    other K−1 classes, re-normalised; 0 on two classes. The paper adds the cross-entropy with weight 1.
    """
    target, others = dkd_parts(student_logits, teacher_logits, labels, temperature)
    return alpha * target + beta * others


def dkd_parts(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor,
              temperature: float) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of `dkd`, unweighted."""
    _require_alike(student_logits, teacher_logits, 2, "logits")
    if labels.shape != student_logits.shape[:1] or labels.dtype != torch.int64:
        raise UsageError(f"labels must be class numbers [{len(student_logits)}] of type int64, one for each row of "
                         f"logits, not {labels.dtype} {list(labels.shape)}.")
    right, others = _decoupled(student_logits / temperature, labels)
    right_t, others_t = _decoupled(teacher_logits / temperature, labels)
    return temperature**2 * _divergence(right, right_t), temperature**2 * _divergence(others, others_t)


def dist(student_logits: Tensor, teacher_logits: Tensor, beta: float = 1.0, gamma: float = 1.0,
         temperature: float = 4.0) -> Tensor:
    """Relations: `τ²·[β·(1 − mean_i ρ(Y_s[i,:], Y_t[i,:])) + γ·(1 − mean_k ρ(Y_s[:,k], Y_t[:,k]))]`, Y =
    softmax(z/τ), ρ Pearson's correlation (Huang 2022, arXiv 2205.10536).

    β: between the classes of an image. γ: between the images of the batch, class by class. Rows of two numbers always
    correlate by ±1, so two classes or a batch of two leave one of the terms without gradient.
    """
    inter, intra = dist_parts(student_logits, teacher_logits, temperature)
    return beta * inter + gamma * intra


def dist_parts(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The relations between classes and those between images of `dist`, unweighted."""
    _require_alike(student_logits, teacher_logits, 2, "logits")
    ours, theirs = (F.softmax(logits / temperature, dim=1) for logits in (student_logits, teacher_logits))
    return temperature**2 * _uncorrelated(ours, theirs), temperature**2 * _uncorrelated(ours.T, theirs.T)


def at(student_features: Features, teacher_features: Features) -> Tensor:
    """Attention transfer: `Σ_stages mean((A_s − A_t)²)`, A = vec(mean_c F²)/‖·‖₂ (Zagoruyko 2017, arXiv 1612.03928,
    p = 2).

    Channels may differ; the larger map of a pair is average-pooled to the smaller before it is normalised.
    """
    return _over_stages(lambda ours, theirs: at_maps(attention_map(ours), attention_map(theirs)),
                        student_features, teacher_features)


def at_maps(ours: Tensor, theirs: Tensor) -> Tensor:
    """`at` of two attention maps [B, H, W]."""
    ours, theirs = (F.normalize(maps.flatten(1), dim=1) for maps in to_coarser(ours[:, None], theirs[:, None]))
    return F.mse_loss(ours, theirs)


def attention_map(features: Tensor) -> Tensor:
    """Where a stage responds, whatever the sign: the mean over channels of its square. [B, C, H, W] to [B, H, W]."""
    return features.square().mean(dim=1)


def fitnet(student_features: Features, teacher_features: Features,
           projector: Callable[[Tensor], Tensor] = lambda features: features) -> Tensor:
    """Hint: `Σ_stages mean((r(F_s) − F_t)²)` (Romero 2015, arXiv 1412.6550, FitNets).

    F_s is first brought to the teacher's grid: averaged where that is coarser, else interpolated. projector: r, learnt
    beside the student; needed where the numbers of channels differ (the paper's is a convolution).
    """
    def one(ours: Tensor, theirs: Tensor) -> Tensor:
        projected = projector(_resized(ours, theirs))
        if projected.shape != theirs.shape:
            raise UsageError(f"The student's features {list(projected.shape)} are not of the teacher's shape "
                             f"{list(theirs.shape)}. Give a projector, such as torch.nn.Conv2d({ours.shape[1]}, "
                             f"{theirs.shape[1]}, 1), and train it with the student.")
        return F.mse_loss(projected, theirs)

    return _over_stages(one, student_features, teacher_features)


def sp(student_features: Features, teacher_features: Features) -> Tensor:
    """Similarity-preserving: `Σ_stages ‖G_s − G_t‖²_F / B²`, G = F·Fᵀ of features F [B, C·H·W], each row of length 1
    (Tung 2019, arXiv 1907.09682). Channels and grids may differ.
    """
    return _over_stages(lambda ours, theirs: F.mse_loss(_similarity(ours), _similarity(theirs)),
                        student_features, teacher_features)


def cat_kd(student_cams: Tensor, teacher_cams: Tensor, pool: int = 2) -> Tensor:
    """Class attention: `mean((pool_r CAM_s − pool_r CAM_t)²)` of class activation maps [B, K, H, W] of every class
    (Guo 2023, arXiv 2304.12777), average-pooled to r × r, or to the coarser grid of the two where that is smaller.
    """
    _require_classes(student_cams, teacher_cams)
    height, width = (min(pool, *sides) for sides in zip(student_cams.shape[-2:], teacher_cams.shape[-2:], strict=True))
    return F.mse_loss(pooled(student_cams, height, width), pooled(teacher_cams, height, width))


def e2kd(student_cams: Tensor, teacher_cams: Tensor, teacher_logits: Tensor) -> Tensor:
    """Similarity of explanations: `1 − cos(E_t, E_s)`, E the positive part of the class activation map [B, K, H, W] of
    the teacher's top class (Parchami-Araghi 2024, arXiv 2402.03119), on the coarser grid of the two; the paper adds it
    to `kd`. An image whose teacher map is blank counts 0.
    """
    _require_classes(student_cams, teacher_cams)
    top = teacher_logits.argmax(dim=1)
    ours, theirs = (maps.flatten(1) for maps in to_coarser(_evidence(student_cams, top), _evidence(teacher_cams, top)))
    return ((1 - F.cosine_similarity(ours, theirs, dim=1)) * theirs.any(dim=1)).mean()


def pooled(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps [B, C, H, W] averaged to a grid of at most height × width; a smaller side stays as it is."""
    grid = min(height, maps.shape[-2]), min(width, maps.shape[-1])
    return maps if grid == maps.shape[-2:] else F.adaptive_avg_pool2d(maps, grid)


def to_coarser(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps [B, C, H, W] on the coarser grid of the two."""
    return pooled(one, *other.shape[-2:]), pooled(other, *one.shape[-2:])


def _over_stages(loss: Callable[[Tensor, Tensor], Tensor], student: Features, teacher: Features) -> Tensor:
    """The sum of a loss over pairs of stages."""
    ours, theirs = ([one] if isinstance(one, Tensor) else list(one) for one in (student, teacher))
    if not ours or len(ours) != len(theirs):
        raise UsageError(f"Stages are compared in pairs, but there are {len(ours)} of the student and {len(theirs)} of "
                         "the teacher. Give as many of each.")
    for first, second in zip(ours, theirs, strict=True):
        if first.ndim != 4 or second.ndim != 4 or len(first) != len(second):
            raise UsageError(f"Features must be [B, C, H, W] of the same images, not {list(first.shape)} of the "
                             f"student and {list(second.shape)} of the teacher.")
    return torch.stack([loss(*pair) for pair in zip(ours, theirs, strict=True)]).sum()


def _require_alike(student: Tensor, teacher: Tensor, axes: int, what: str) -> None:
    if student.ndim != axes or student.shape != teacher.shape:
        raise UsageError(f"The {what} must have one shape [B, K], not {list(student.shape)} of the student and "
                         f"{list(teacher.shape)} of the teacher.")


def _require_classes(student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 4 or teacher.ndim != 4 or student.shape[:2] != teacher.shape[:2]:
        raise UsageError("Class activation maps must be [B, K, H, W] of the same images and classes, not "
                         f"{list(student.shape)} of the student and {list(teacher.shape)} of the teacher.")


def _divergence(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def standardised(logits: Tensor) -> Tensor:
    """Each row of logits [B, K] at mean 0 and unbiased standard deviation 1; a constant row becomes zeros, without
    gradient: as a new classifier gives them, it would be 10⁷ times as large as all later ones."""
    centred, spread = logits - logits.mean(dim=1, keepdim=True), logits.std(dim=1, keepdim=True)
    return centred / (spread + 1e-7) * (spread > FLAT)


def _decoupled(scaled: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of scaled logits [B, K]: [right class, all others] [B, 2], and the others among themselves
    [B, K − 1]. Of logits, not of probabilities: 1 − p_y would be zero where a model is sure."""
    is_right = F.one_hot(labels, scaled.shape[1]).bool()
    others = scaled[~is_right].view(len(scaled), -1)
    whole = torch.stack([scaled[is_right], others.logsumexp(dim=1)], dim=1)
    return F.log_softmax(whole, dim=1), F.log_softmax(others, dim=1)


def _uncorrelated(ours: Tensor, theirs: Tensor) -> Tensor:
    """One minus the mean correlation of like rows; a constant row correlates with nothing, and gets no gradient."""
    ours, theirs = (rows - rows.mean(dim=1, keepdim=True) for rows in (ours, theirs))
    varied = ours.detach().abs().amax(dim=1) > FLAT
    return 1 - (F.cosine_similarity(ours, theirs, dim=1) * varied).mean()


def _resized(features: Tensor, like: Tensor) -> Tensor:
    """Features [B, C, H, W] on the grid of another map: averaged where that is coarser, else interpolated."""
    grid = like.shape[-2], like.shape[-1]
    if features.shape[-2:] == grid:
        return features
    if features.shape[-2] >= grid[0] and features.shape[-1] >= grid[1]:
        return F.adaptive_avg_pool2d(features, grid)
    return F.interpolate(features, grid, mode="bilinear", align_corners=False)


def _similarity(features: Tensor) -> Tensor:
    """How alike the images of a batch are [B, B]; each row of length 1."""
    rows = features.flatten(1)
    return F.normalize(rows @ rows.T, dim=1)


def _evidence(cams: Tensor, classes: Tensor) -> Tensor:
    """The positive part [B, 1, H, W] of each image's map of one class, of all maps [B, K, H, W]."""
    return cams[torch.arange(len(cams), device=cams.device), classes, None].relu()
