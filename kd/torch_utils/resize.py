"""Bilinear resizing: of maps to an image or to another grid, and of images to a model's input size."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kd.placement import Placement, painting


def upsample(maps: Tensor, size: int | tuple[int, int], placement: Placement | None = None) -> Tensor:
    """Bilinear interpolation of maps [N, h, w] or [N, C, h, w] to `size`: a side, or (height, width).

    placement: where the cells lie in the image; None for a grid that is stretched over it. There cells count as areas
    (align_corners=False), so the image's borders stay where they are, and nothing is averaged where `size` is smaller
    than the map.
    """
    size = (size, size) if isinstance(size, int) else size
    if placement is not None:
        down, across = (torch.tensor(weights, dtype=maps.dtype, device=maps.device)
                        for weights in painting((maps.shape[-2], maps.shape[-1]), size, placement))
        return down @ maps @ across
    planes = maps[:, None] if maps.ndim == 3 else maps
    resized = F.interpolate(planes, size, mode="bilinear", align_corners=False)
    return resized[:, 0] if maps.ndim == 3 else resized


def downsample(images: Tensor, side: int) -> Tensor:
    """Images [N, C, S, S] at `side` pixels: bilinear with antialiasing, as Pillow and torchvision downsample.

    Differentiable; in single precision at least. Images that are no larger are returned as they are.
    """
    if images.shape[-1] <= side:
        return images
    exact = images.to(torch.promote_types(images.dtype, torch.float32))  # no half precision on a processor
    if torch.compiler.is_exporting():
        # As products with constants, which every engine computes; OpenVINO drops the antialiasing of an ONNX file.
        down = torch.tensor(_averaging(images.shape[-1], side), dtype=exact.dtype, device=exact.device)
        return down @ exact @ down.T
    return F.interpolate(exact, (side, side), mode="bilinear", align_corners=False, antialias=True)


@lru_cache
def _averaging(size: int, side: int) -> NDArray[np.float32]:
    """Weights [side, size] by which antialiased bilinear interpolation averages `size` pixels to `side`: a triangle as
    wide as two of the new pixels."""
    step = size / side
    centres = (np.arange(side)[:, None] + 0.5) * step
    weights = np.clip(1 - np.abs(np.arange(size)[None] + 0.5 - centres) / step, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
