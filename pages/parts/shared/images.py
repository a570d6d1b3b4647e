"""Images and heat maps as pixels and PNG files for the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kd.inspection.overlay import OUTLINE, colour

if TYPE_CHECKING:
    from kd.models.receptive_field import Box  # imports torch, which not every page needs

LEAST = 224  # pixels: smaller images are enlarged before they are blended, so that the map's edges stay soft
MAPS = ("inferno", "viridis", "jet")  # jet on request: its bright bands show edges that are not there
GAP = 8  # pixels between the images of a mosaic


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels [H, W, 3], or 4 with an opacity, as a PNG file's content; `st.image` makes a JPEG of it without
    `output_format="PNG"`."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def enlarge(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At least LEAST pixels high, shape kept."""
    if pixels.shape[0] >= LEAST:
        return pixels
    width = round(pixels.shape[1] * LEAST / pixels.shape[0])
    return np.asarray(Image.fromarray(pixels).resize((width, LEAST), Image.Resampling.BICUBIC))


def fitted(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A square image at so many pixels a side."""
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def mosaic(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Rows of square images [side, side, 3], each row of one size, as one [H, W, 4] with see-through gaps."""
    sides = [row[0].shape[0] for row in rows]
    width = max(len(row) * (side + GAP) - GAP for row, side in zip(rows, sides, strict=True))
    whole = np.zeros((sum(sides) + GAP * (len(rows) - 1), width, 4), np.uint8)
    top = 0
    for row, side in zip(rows, sides, strict=True):
        for number, picture in enumerate(row):
            left = number * (side + GAP)
            whole[top:top + side, left:left + side] = np.dstack([picture, np.full((side, side), 255, np.uint8)])
        top += side + GAP
    return whole


def boxed(pixels: NDArray[np.uint8], box: Box | None, side: int) -> NDArray[np.uint8]:
    """The image with a rectangle drawn on it. side: of the image that the box counts its pixels in."""
    if box is None:
        return pixels
    grown = pixels.shape[0] / side
    corners = [round(edge * grown) for edge in (box.left, box.top, box.right, box.bottom)]
    picture = Image.fromarray(pixels)
    # Dark around light: seen on every colour map.
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = corners[0], corners[1], corners[2] - 1, corners[3] - 1
    draw.rectangle((left, top, right, bottom), outline=(0, 0, 0), width=5)
    draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=OUTLINE, width=3)
    return np.asarray(picture)


def coarse(note: str) -> None:
    """An announcement of maps that are too coarse to tell where, by `kd.metrics.grids.coarse_note`."""
    if note:
        st.caption(f":material/grid_on: **{note}** A larger input or an earlier stage has a finer grid.")


def colour_bar(colormap: str, low: str = "low", high: str = "high") -> None:
    """The legend, from the lowest to the highest value."""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", width="content"):
        st.caption(low, width="content")
        st.image(_bar(colormap), width=160, output_format="PNG", alt=f"colour bar {colormap}, from {low} to {high}")
        st.caption(high, width="content")


@st.cache_data(max_entries=8, show_spinner=False)
def _bar(colormap: str) -> bytes:
    return png(colour(np.linspace(0, 1, 160)[None].repeat(12, axis=0), (12, 160), colormap))
