"""Augmentation as numbered views: view v of image i always has the same pixels.

So teacher and student are trained on the same views, in every seed and with every method, and the teacher's outputs for
a view can be cached. Geometry (random resized crop, rotation, flip) is one affine resampling; then brightness.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kd.datasets.tensors import on_device

VERSION = 1
# At full strength:
CROPPED = 0.5  # a crop leaves out at most this share of the area
ROTATION = math.radians(15)
SHADE = 0.2  # brightness changes by at most this share


def view_number(epoch: int | NDArray[np.int64], index: NDArray[np.int64], views: int) -> NDArray[np.int64]:
    """Number of the view of each image [B] in an epoch, or in the pass [B] that each is shown in: every image cycles
    through its views, from its own start."""
    return (epoch + (_hash(index, 0, 0) % np.uint64(views)).astype(np.int64)) % views


def augment(images: Tensor, index: NDArray[np.int64], view: NDArray[np.int64], flip: bool,
            strength: float = 1.0) -> Tensor:
    """Views number `view` [B] of images [B, 3, S, S] in 0..1. index: the images' indices in their split [B].

    strength: 0..1, strength of the augmentation; at 0 a view is the image itself or, with `flip`, its mirror image.
    """
    draw = on_device(_uniform(index, view, np.arange(6)[:, None]), images.device)
    side = (1 - strength * CROPPED * draw[0]).sqrt()
    angle = strength * ROTATION * (2 * draw[1] - 1)
    mirror = torch.where(draw[2] < 0.5, -1.0, 1.0) if flip else torch.ones_like(side)
    shift = (1 - side) * (2 * draw[3:5] - 1)
    cos, sin = side * angle.cos(), side * angle.sin()
    grid = _grid(torch.stack([cos * mirror, sin * mirror]), torch.stack([-sin, cos]), shift, images.shape[-1])
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    # Brightness multiplies: black surroundings stay black, as they do in a scanner.
    return moved.mul_((1 + strength * SHADE * (2 * draw[5] - 1))[:, None, None, None]).clamp_(0, 1)


def mixup(index: NDArray[np.int64], view: NDArray[np.int64], among: NDArray[np.int64],
          strength: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Mixup (Zhang 2018, arXiv 1710.09412) of the views of images [B]: the other image that each is mixed with, one of
    `among`, and the share of its own, from Beta(strength, strength). View v of the one is mixed with view v of the
    other, always the same, so teacher and student are given the same images (Beyer 2022, arXiv 2106.05237)."""
    from scipy.special import betaincinv

    partner, drawn = _uniform(index, view, np.array([[6], [7]]))
    place = np.minimum(partner * len(among), len(among) - 1).astype(np.int64)
    share = betaincinv(strength, strength, drawn.astype(np.float64))
    return among[place], share.astype(np.float32)


def _grid(right: Tensor, down: Tensor, shift: Tensor, side: int) -> Tensor:
    """Sampling grid of each view, x and y in -1..1 [B, S, S, 2]: that of the column + that of the row.

    right, down: change of x and y per unit to the right and per unit down, [2, B]. `F.affine_grid` gives the same
    numbers by a matrix product, which takes longer than the resampling.
    """
    place = (torch.arange(side, device=shift.device) * 2 + 1) / side - 1
    column = right[:, :, None] * place
    row = down[:, :, None] * place + shift[:, :, None]
    return (column[:, :, None, :] + row[:, :, :, None]).permute(1, 2, 3, 0)


def _uniform(index: NDArray[np.int64], view: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.float32]:
    """Random values in [0, 1), one per (number, image, view), by hashing: independent of order, without state."""
    return ((_hash(index, view, number + 1) >> np.uint64(40)) / np.float64(2**24)).astype(np.float32)


def _hash(index: NDArray[np.int64], view: NDArray[np.int64] | int,
          number: NDArray[np.int64] | int) -> NDArray[np.uint64]:
    """splitmix64 (Steele 2014) of the three numbers."""
    with np.errstate(over="ignore"):
        value = (np.asarray(index, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
                 + np.asarray(view, np.uint64) * np.uint64(0xD1B54A32D192ED03)
                 + np.asarray(number, np.uint64) * np.uint64(0x8CB92BA72F3D8DD7))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
        return value ^ (value >> np.uint64(31))
