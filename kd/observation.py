"""What a method and an explainer may see of a model."""

from typing import NamedTuple

from torch import Tensor

from kd.errors import unknown
from kd.losses import attention_map


class MaskSampling(NamedTuple):
    """How an explained student draws masks in training.

    temperature: of the concrete relaxation, above 0; towards 0 each place is shown or not. samples: masks per picture.
    joint: share of the student's gradient that reaches the explainer through the mask, 0..1.
    """

    temperature: float
    samples: int
    joint: float


class MaskSamples(NamedTuple):
    """What an explained student drew in training, R masks per picture.

    scores: log-odds [B, h, w] that a place is shown. shown, rest: what the masks leave of the first half of the batch,
    and what they take away of the second [R·⌈B/2⌉, 3, S, S] (of an odd batch the middle one is in both). answers: the
    student's logits [N·B, K] for all pictures under these and under random masks. Copies follow one another: row
    r·n + i is of picture i of n.
    """

    scores: Tensor
    shown: Tensor
    rest: Tensor
    answers: Tensor


class Observation(NamedTuple):
    """The result of one forward pass.

    logits: [B, K], before softmax.
    stages: feature maps [B, C_i, H_i, W_i], from the input side to the last one before pooling; none where they
        were not asked for.
    cams: class activation maps [B, K, H, W] of the last stage, where they were asked for (`Classifier.class_maps`).
    mask: of an explained student [B, S, S] in 0..1: how much of each pixel it was shown.
    drawn: of an explained student that was asked to draw masks, as it is in training.
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
