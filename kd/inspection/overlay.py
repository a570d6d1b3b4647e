"""Coloured heat maps and their overlays on images, in numpy."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from kd.errors import unknown
from kd.placement import Placement, painting

COLORMAPS = ("inferno", "viridis", "turbo", "jet", "gray")
SIGNED = "berlin"  # for values around 0, which is dark: blue below and red above survive colour blindness
OPACITY = 0.5
OUTLINE = (0, 255, 255)  # cyan, which no colour map has


def overlay(image: NDArray[np.uint8], heat: NDArray[np.floating], opacity: float = OPACITY,
            colormap: str = COLORMAPS[0], placement: Placement | None = None) -> NDArray[np.uint8]:
    """Overlay: an image [H, W, 3] blended with the coloured map. Opacity 0 is the image alone, 1 the map alone.

    heat: [h, w] in 0..1 at its native grid. placement: see `upsample`. Raises ValueError when opacity is outside 0..1,
    else as `colour`.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be between 0 and 1, not {opacity}")
    height, width = image.shape[:2]
    blend = (1 - opacity) * image + opacity * colour(heat, (height, width), colormap, placement).astype(np.float32)
    return (blend + 0.5).astype(np.uint8)


def colour(heat: NDArray[np.floating], size: int | tuple[int, int],
           name: str = COLORMAPS[0], placement: Placement | None = None) -> NDArray[np.uint8]:
    """A map [h, w] in 0..1, upsampled to `size` (a side, or height and width) and coloured: RGB [H, W, 3].

    Raises UsageError when there is no such colour map. The colours of a legend: `colour(ramp[None], (10, 256))`.
    """
    return lookup(name)[(upsample(heat, size, placement) * 255 + 0.5).astype(np.uint8)]


def upsample(heat: NDArray[np.floating], size: int | tuple[int, int],
             placement: Placement | None = None) -> NDArray[np.float32]:
    """A map [h, w] in 0..1 resized to `size`, bilinear; never scaled again.

    placement: where its cells lie in the image; None for a grid that is stretched over it.
    """
    size = (size, size) if isinstance(size, int) else size
    down, across = painting((heat.shape[0], heat.shape[1]), size, placement)
    return np.clip(down @ heat @ across, 0.0, 1.0).astype(np.float32)


@lru_cache
def lookup(name: str) -> NDArray[np.uint8]:
    """The 256 colours [256, 3] of a colour map. Raises UsageError when it is not one of COLORMAPS or SIGNED."""
    if name not in (*COLORMAPS, SIGNED):
        raise unknown("colour map", name, (*COLORMAPS, SIGNED))
    import matplotlib  # imported here because it takes a third of a second

    return (matplotlib.colormaps[name](np.arange(256))[:, :3] * 255 + 0.5).astype(np.uint8)


def outline(pixels: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """The image [H, W, 3] with the border of a mask (0 or 255, any size) drawn on it."""
    if mask is None:
        return pixels
    grown = Image.fromarray(mask).resize(pixels.shape[1::-1], Image.Resampling.NEAREST)
    reach = 1 + min(pixels.shape[:2]) // 240  # pixels: as wide in a large image as in a small one
    edge = np.asarray(grown.filter(ImageFilter.MaxFilter(2 * reach + 1))) != np.asarray(grown)
    drawn = pixels.copy()
    drawn[edge] = OUTLINE
    return drawn
