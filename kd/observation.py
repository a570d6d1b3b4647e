"""Outputs of a forward pass, as methods and explainers receive them."""

from typing import NamedTuple

from torch import Tensor

from kd.errors import unknown
from kd.losses import attention_map


class MaskSampling(NamedTuple):
    """Settings by which a masked student is shown images in training.

    widest: share of the image, above 0 and at most 1, up to which a second mask of each image is widened at random.
    """

    widest: float


class MaskSamples(NamedTuple):
    """Scores and further answers of a masked student in training.

    scores: log-odds [B, h, w] by which the places of an image are ranked, with gradient. answers: the student's logits
    [B, K] for the images under masks of random area.
    """

    scores: Tensor
    answers: Tensor


class Observation(NamedTuple):
    """Result of one forward pass.

    logits: [B, K], before softmax.
    stages: feature maps [B, C_i, H_i, W_i], from the input side to the last one before pooling; none where they
        were not requested.
    cams: class activation maps [B, K, H, W] of the last stage, where requested (`Classifier.class_activation_maps`).
    mask: of a masked student [B, S, S] in 0..1: the share of each pixel that it was shown.
    mask_samples: of a masked student in training, asked for by a `MaskSampling`.
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
