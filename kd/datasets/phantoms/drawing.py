"""Drawing with numpy: soft-edged shapes, strokes, smooth noise, and the faults of a camera or a scanner.

Lengths are relative: the image spans -1..1 in both axes, x to the right and y down, so a shape has the same place at
every size. Fields are float32 [S, S]; a *distance* field is negative inside a shape; a *cover* is its share of each
pixel, 0..1.
"""

from functools import lru_cache
from math import ceil, cos, sin

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
SMALLEST = 64  # below this side, fine structures alias: they are drawn larger and averaged


def working_size(size: int) -> int:
    """The side at which an image of side `size` is drawn: a multiple of `size`, for `shrink`."""
    return size * ceil(SMALLEST / size)


def shrink(field: Field, size: int) -> Field:
    """Average a field [W, W, ...] of `working_size` down to [size, size, ...]."""
    factor = field.shape[0] // size
    if factor == 1:
        return field
    return field.reshape(size, factor, size, factor, *field.shape[2:]).mean(axis=(1, 3), dtype=np.float32)


@lru_cache(maxsize=8)
def plane(size: int) -> tuple[Field, Field]:
    """x and y of the pixel centres [S, S]."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def posed(size: int, angle: float, shift: tuple[float, float], scale: float) -> tuple[Field, Field]:
    """x and y as seen by an object turned by `angle` (radians), moved by `shift` and enlarged by `scale`."""
    x, y = plane(size)
    x, y = x - np.float32(shift[0]), y - np.float32(shift[1])
    c, s = np.float32(cos(angle) / scale), np.float32(sin(angle) / scale)
    return c * x + s * y, c * y - s * x


def ellipse(x: Field, y: Field, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Field:
    """Distance to an ellipse, exact on its edge and for circles, near enough beside it."""
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    if angle:
        c, s = np.float32(cos(angle)), np.float32(sin(angle))
        dx, dy = c * dx + s * dy, c * dy - s * dx
    reach = np.sqrt((dx / np.float32(radii[0]))**2 + (dy / np.float32(radii[1]))**2)
    return (reach - 1) * np.float32(min(radii))


def segment(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float]) -> Field:
    """Distance to a straight line between two points (never negative)."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    px, py = x - np.float32(start[0]), y - np.float32(start[1])
    along = np.clip((px * dx + py * dy) / np.float32(dx * dx + dy * dy), 0, 1)
    return np.hypot(px - along * np.float32(dx), py - along * np.float32(dy))


def union(first: Field, second: Field, round_by: float) -> Field:
    """Distance to two shapes melted together over a length of `round_by`."""
    near = np.clip(np.float32(0.5) + (second - first) / np.float32(2 * round_by), 0, 1)
    return second + (first - second) * near - np.float32(round_by) * near * (1 - near)


def cover(distance: Field, softness: float = 0.0) -> Field:
    """Share of each pixel inside a shape; the edge is `softness` wide, and at least a pixel and a half."""
    width = np.float32(max(softness, 3 / distance.shape[-1]))
    return np.clip(np.float32(0.5) - distance / width, 0, 1)


def paint(image: Field, value: float | Field, share: Field) -> None:
    """Blend `value` into a field in place."""
    image += (np.asarray(value, np.float32) - image) * share


@lru_cache(maxsize=64)
def _spline(cells: int, size: int) -> Field:
    """Weights [size, cells + 3] of cubic B-splines over `cells` equal cells."""
    place = (np.arange(size) + 0.5) / size * cells
    first = np.minimum(place.astype(int), cells - 1)
    t = place - first
    parts = ((1 - t)**3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    weights = np.zeros((size, cells + 3), np.float32)
    for offset, part in enumerate(parts):
        weights[np.arange(size), first + offset] = part / 6
    weights.flags.writeable = False
    return weights


def smooth_noise(rng: np.random.Generator, cells: int, size: int) -> Field:
    """Noise without grain, about unit variance, with about `cells` bumps along each side: the same at every size."""
    knots = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    weights = _spline(cells, size)
    return weights @ (knots * np.float32(1 / 0.479)) @ weights.T


def blur(image: Field, cells: int) -> Field:
    """A field [S, S] or [S, S, C] without details finer than about 1/cells of its side."""
    weights = _spline(cells, image.shape[0])
    down = (weights / weights.sum(axis=0)).T
    planes = image[..., None] if image.ndim == 2 else image
    smooth = np.stack([weights @ (down @ planes[..., c] @ down.T) @ weights.T for c in range(planes.shape[2])], axis=2)
    return smooth.reshape(image.shape)


def stamp(size: int, points: NDArray[np.floating], radii: NDArray[np.floating], strength: NDArray[np.floating]
          ) -> Field:
    """Soft dots at points [N, 2] (x, y) with radii [N] and strengths [N], the strongest winning at each pixel.

    Dots thinner than a pixel become fainter instead of vanishing. Close dots make a line.
    """
    half = size / 2
    place = (np.asarray(points, np.float32) + 1) * np.float32(half) - np.float32(0.5)
    radius = np.asarray(radii, np.float32) * np.float32(half)
    base = np.rint(place).astype(np.int32)
    reach = ceil(float(radius.max(initial=0)) + 0.5)
    step = np.arange(-reach, reach + 1, dtype=np.int32)
    col, row = base[:, :1] + step, base[:, 1:] + step
    across, down = (col - place[:, :1])**2, (row - place[:, 1:])**2
    distance = np.sqrt(down[:, :, None] + across[:, None, :])
    share = np.clip(radius[:, None, None] + np.float32(0.5) - distance, 0, 1)
    share *= (np.minimum(1, 2 * radius) * np.asarray(strength, np.float32))[:, None, None]
    # One pixel of frame on each side takes what falls outside.
    framed = np.zeros((size + 2) * (size + 2), np.float32)
    flat = (np.clip(row, -1, size) + 1)[:, :, None] * (size + 2) + (np.clip(col, -1, size) + 1)[:, None, :]
    hit = share > 0
    np.maximum.at(framed, flat[hit], share[hit])
    return framed.reshape(size + 2, size + 2)[1:-1, 1:-1]


def irregular(rng: np.random.Generator, x: Field, y: Field, centre: tuple[float, float], radius: float,
              roughness: float) -> Field:
    """Distance to a lumpy disc: its radius swings by about `roughness` (a share) around the circle."""
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    angle = np.arctan2(dy, dx)
    swing = np.zeros_like(angle)
    for lobes in (2, 3, 5):
        swing += np.float32(rng.normal() * roughness / lobes**0.5) * np.cos(
            np.float32(lobes) * angle + np.float32(rng.uniform(0, 6.3)))
    return np.hypot(dx, dy) - np.float32(radius) * (1 + np.clip(swing, -0.5, 0.7))


def bias_field(rng: np.random.Generator, size: int, strength: float) -> Field:
    """The uneven sensitivity of a coil or lamp: a smooth factor around 1."""
    return np.exp(smooth_noise(rng, 2, size) * np.float32(strength))


def rician(rng: np.random.Generator, image: Field, sigma: float) -> Field:
    """Noise of a magnitude MR image (Gudbjartsson 1995): never negative, a low grey in air."""
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma)
    return np.hypot(image + real, imaginary)


def to_pixels(image: Field) -> NDArray[np.uint8]:
    """0..1 to uint8 RGB: [S, S] is repeated into three equal channels, [S, S, 3] is kept."""
    pixels = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def to_mask(share: Field) -> NDArray[np.uint8]:
    """A cover as a mask of 0 and 255, cut at about a third; a shape too thin for that keeps its fullest pixels."""
    level = min(0.35, 0.7 * float(share.max()))
    return np.where(share >= max(level, 0.05), np.uint8(255), np.uint8(0))


# A capital R in five columns and seven rows, as radiographers lay it beside the patient.
GLYPH = np.array([[int(bit) for bit in row] for row in
                  ("11110", "10001", "10001", "11110", "10100", "10010", "10001")], np.float32)
MARKER_BOX = (0.08, 0.06, 0.18, 0.20)  # left, top, right, bottom as shares of the side


def add_marker(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of an image with the bright corner marker: a planted shortcut."""
    size = pixels.shape[0]
    left, top, right, bottom = (round(share * size) for share in MARKER_BOX)
    rows = _steps(len(GLYPH), bottom - top)
    cols = _steps(GLYPH.shape[1], right - left)
    letter = (rows @ GLYPH @ cols.T)[:, :, None]
    marked = pixels.copy()
    window = marked[top:bottom, left:right].astype(np.float32)
    marked[top:bottom, left:right] = (window + (235 - window) * letter + 0.5).astype(np.uint8)
    return marked


def _steps(cells: int, size: int) -> Field:
    """Weights [size, cells]: the share of each pixel that each cell fills, for areas of a glyph at any size."""
    low = np.arange(size)[:, None] * cells / size
    start = np.arange(cells)[None]
    overlap = np.minimum(low + cells / size, start + 1) - np.maximum(low, start)
    return (np.clip(overlap, 0, None) * size / cells).astype(np.float32)
