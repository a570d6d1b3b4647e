"""Outputs of a forward pass, as methods and explainers receive them."""

from typing import NamedTuple

from torch import Tensor

from kd.errors import unknown
from kd.losses import attention_map


class MaskSampling(NamedTuple):
    """Settings by which a masked student samples masks in training.

    temperature: of the concrete relaxation, above 0; towards 0 the masks become binary. samples: masks per image.
    joint: share of the student's gradient that reaches the mask network through the mask, 0..1.
    """

    temperature: float
    samples: int
    joint: float


class MaskSamples(NamedTuple):
    """Masks that a masked student sampled in training, R per image, and their results.

    scores: log-odds [B, h, w] that a place is shown. shown, rest: the first half of the batch under the masks, and the
    second half under their complements [R·⌈B/2⌉, 3, S, S] (the middle image of an odd batch is in both). answers: the
    student's logits [N·B, K] for all images under these and under random masks. Copies follow one another: row r·n + i
    is of image i of n.
    """

    scores: Tensor
    shown: Tensor
    rest: Tensor
    answers: Tensor


class Observation(NamedTuple):
    """Result of one forward pass.

    logits: [B, K], before softmax.
    stages: feature maps [B, C_i, H_i, W_i], from the input side to the last one before pooling; none where they
        were not requested.
    cams: class activation maps [B, K, H, W] of the last stage, where requested (`Classifier.class_activation_maps`).
    mask: of a masked student [B, S, S] in 0..1: the share of each pixel that it was shown.
    mask_samples: of a masked student that sampled masks, as it does in training.
    """

    logits: Tensor
    stages: tuple[Tensor, ...]
    cams: Tensor | None = None
    mask: Tensor | None = None
    mask_samples: MaskSamples | None = None


def stage_map(features: Tensor) -> Tensor:
    """The channel-average feature map of a stage (KD-FMV, AAAI-25): [B, C, H, W] to [B, H, W]. Not class-specific."""
    return features.mean(dim=1)


def select_output(seen: Observation, name: str) -> Tensor:
    """One output of a forward pass by its name: [B, …].

    logits [B, K]; cams [B, K, H, W]; attention:I [B, H, W] and stage:I [B, C, H, W] of stage I, counted from 0. Raises
    UsageError for another name.
    """
    kind, _, number = name.partition(":")
    if kind == "logits":
        return seen.logits
    if kind == "cams":
        assert seen.cams is not None, "the forward pass was not asked for class activation maps"
        return seen.cams
    if kind == "attention":
        return attention_map(seen.stages[int(number)])
    if kind == "stage":
        return seen.stages[int(number)]
    raise unknown("output of a model", name, ("logits", "cams", "attention:I", "stage:I"))
