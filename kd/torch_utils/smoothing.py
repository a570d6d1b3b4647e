"""Gaussian blur of maps and images whose standard deviation is a share of the side."""

import torch
from torch import Tensor


def gaussian_blur(maps: Tensor, share: float) -> Tensor:
    """Maps [..., H, W] blurred by a Gaussian whose standard deviation is `share` of each side.

    Every value is the weighted mean of all values of its map: nothing is assumed beyond the border, and a constant map
    stays what it is. Two matrix products, so the width of the blur costs nothing.
    """
    rows, columns = (_weights(side, share, maps) for side in maps.shape[-2:])
    return rows @ maps @ columns.T


def _weights(side: int, share: float, like: Tensor) -> Tensor:
    """[side, side]: the weight of every place in the mean at every other; rows sum to 1."""
    place = torch.arange(side, device=like.device, dtype=like.dtype) / side
    weights = (-((place[:, None] - place) / share).square() / 2).exp()
    return weights / weights.sum(dim=1, keepdim=True)
