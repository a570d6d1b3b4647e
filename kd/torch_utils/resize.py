"""Bilinear resizing of maps to an image or to another grid."""

from torch import Tensor
from torch.nn import functional as F


def upsample(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Bilinear interpolation of maps [N, h, w] or [N, C, h, w] to `size`: a side, or (height, width).

    Cells count as areas (align_corners=False), so the image's borders stay where they are. Nothing is averaged where
    `size` is smaller than the map.
    """
    planes = maps[:, None] if maps.ndim == 3 else maps
    size = (size, size) if isinstance(size, int) else size
    resized = F.interpolate(planes, size, mode="bilinear", align_corners=False)
    return resized[:, 0] if maps.ndim == 3 else resized
