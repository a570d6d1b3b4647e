"""Layouts of features: channels before the grid, behind it, or a row of tokens; to a grid and back, exactly."""

import math
from enum import StrEnum

from torch import Tensor


class Layout(StrEnum):
    """How a network holds its features."""

    CHANNELS_FIRST = "[B, C, H, W]"
    CHANNELS_LAST = "[B, H, W, C]"
    TOKENS = "[B, H·W, C]"


def layout_of(features: object, channels: int) -> Layout | None:
    """Layout of features with so many channels, of a square image; None where they lie on no square grid."""
    if not isinstance(features, Tensor):
        return None
    shape = tuple(features.shape)
    if len(shape) == 4 and shape[1] == channels and shape[2] == shape[3]:
        return Layout.CHANNELS_FIRST
    if len(shape) == 4 and shape[3] == channels and shape[1] == shape[2]:
        return Layout.CHANNELS_LAST
    if len(shape) == 3 and shape[2] == channels and math.isqrt(shape[1]) ** 2 == shape[1]:
        return Layout.TOKENS
    return None


def to_grid(features: Tensor, layout: Layout) -> Tensor:
    """Features as [B, C, H, W]; a view of them where it can be one."""
    if layout is Layout.CHANNELS_FIRST:
        return features
    if layout is Layout.TOKENS:
        side = math.isqrt(features.shape[1])
        features = features.unflatten(1, (side, side))
    return features.permute(0, 3, 1, 2)


def from_grid(features: Tensor, layout: Layout) -> Tensor:
    """Features [B, C, H, W] as the network holds them."""
    if layout is Layout.CHANNELS_FIRST:
        return features
    last = features.permute(0, 2, 3, 1)
    return last.flatten(1, 2) if layout is Layout.TOKENS else last
