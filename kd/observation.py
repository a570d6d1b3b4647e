"""What a method and an explainer may see of a model."""

from typing import NamedTuple

from torch import Tensor


class Observation(NamedTuple):
    """The result of one forward pass.

    logits: [B, K], before softmax.
    stages: feature maps [B, C_i, H_i, W_i], from the input side to the last one before pooling.
    """

    logits: Tensor
    stages: tuple[Tensor, ...]


def stage_map(features: Tensor) -> Tensor:
    """The channel-average feature map of a stage (KD-FMV, AAAI-25): [B, C, H, W] to [B, H, W]. Not class-specific."""
    return features.mean(dim=1)
