"""Placement of a map's cells in the image, and the weights that paint a map onto pixels or average it onto a grid.

A cell lies where the units of its stage look: at the centre of their receptive field. That is not where a map lies that
is simply stretched over the image. A 3×3 convolution of stride 2 with padding 1 is centred on every second pixel,
beginning with the first; after five of them a stretched map is half a cell off, to the lower right.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.floating]


@dataclass(frozen=True)
class Placement:
    """Positions of a map's cells, as shares of the image's side from its top left corner; (down, across) each.

    first: centre of the first cell. step: distance of neighbouring cells. The centre of cell i is at first + i·step.
    """

    first: tuple[float, float]
    step: tuple[float, float]

    @classmethod
    def even(cls, grid: tuple[int, int]) -> "Placement":
        """Placement of a grid (height, width) that is stretched over the image, like the image's own pixels."""
        return cls((0.5 / grid[0], 0.5 / grid[1]), (1 / grid[0], 1 / grid[1]))

    def centres(self, grid: tuple[int, int]) -> tuple[Weights, Weights]:
        """Centres of the rows and of the columns of a grid (height, width); a receptive field can be centred outside
        the image, so they may be below 0 or above 1."""
        return (self.first[0] + self.step[0] * np.arange(grid[0]), self.first[1] + self.step[1] * np.arange(grid[1]))

    def edges(self, grid: tuple[int, int]) -> tuple[Weights, Weights]:
        """Borders between the rows and between the columns, from 0 to 1: every pixel belongs to its nearest cell."""
        down, across = (np.clip(first + step * (np.arange(cells + 1) - 0.5), 0, 1)
                        for first, step, cells in zip(self.first, self.step, grid, strict=True))
        for edges in (down, across):
            edges[0], edges[-1] = 0, 1
        return down, across

    def offset(self, grid: tuple[int, int]) -> tuple[float, float]:
        """Distance (down, across) by which a map of this grid (height, width) would lie too far to the lower right if
        it were stretched over the image: the mean over its cells, as a share of the side."""
        stretched, seen = Placement.even(grid).centres(grid), self.centres(grid)
        return float((stretched[0] - seen[0]).mean()), float((stretched[1] - seen[1]).mean())

    def within(self, box: tuple[int, int, int, int], side: int) -> "Placement":
        """Placement of the same cells as shares of a box (left, top, width, height) in a square image of this side, as
        which an image that is not square lies in its working copy."""
        (left, top, width, height) = box
        first = ((self.first[0] * side - top) / height, (self.first[1] * side - left) / width)
        return Placement(first, (self.step[0] * side / height, self.step[1] * side / width))

    def to_json(self) -> dict[str, list[float]]:
        """Plain values; `from_json` gives an equal placement back."""
        return {"first": list(self.first), "step": list(self.step)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Placement":
        """The placement that `to_json` wrote."""
        return cls((float(values["first"][0]), float(values["first"][1])),
                   (float(values["step"][0]), float(values["step"][1])))


def painting(grid: tuple[int, int], size: tuple[int, int],
             placement: Placement | None = None) -> tuple[Weights, Weights]:
    """Weights ([H, h], [w, W]) by which a map [h, w] is interpolated to H × W pixels: `rows @ map @ columns`.

    Bilinear between the centres of the cells; outside of the outer ones their values stay as they are. Where a pixel
    covers several cells, they are averaged. placement: None for the grid stretched over the image.
    """
    at = placement or Placement.even(grid)
    down, across = (_interpolation(grid[axis], size[axis], at.first[axis], at.step[axis]) for axis in (0, 1))
    return down, across.T


def averaging(grid: tuple[int, int], coarser: tuple[int, int],
              placement: Placement | None = None) -> tuple[Weights, Weights]:
    """Weights ([H, h], [w, W]) by which a map [h, w] is averaged onto a grid H × W that is stretched over the image.

    Each cell of the result is the mean over its area, of which every pixel belongs to the map's nearest cell.
    placement: None for the map stretched over the image, too.
    """
    down, across = (_shares(edges, cells) for edges, cells in
                    zip((placement or Placement.even(grid)).edges(grid), coarser, strict=True))
    return down, across.T


@lru_cache(maxsize=256)
def _interpolation(cells: int, pixels: int, first: float, step: float) -> Weights:
    """[pixels, cells]: triangles around each pixel's place among the cells, a cell wide or, if larger, a pixel."""
    place = np.clip(((np.arange(pixels) + 0.5) / pixels - first) / step, 0, cells - 1)
    reach = max(1.0, 1 / (pixels * step))
    weights = np.clip(1 - np.abs(place[:, None] - np.arange(cells)) / reach, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    weights.setflags(write=False)  # shared between callers
    return weights


def _shares(edges: Weights, coarser: int) -> Weights:
    """[coarser, cells]: the share of each coarse cell that lies nearest to each cell between these edges."""
    low, high = np.arange(coarser)[:, None] / coarser, np.arange(1, coarser + 1)[:, None] / coarser
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * coarser
