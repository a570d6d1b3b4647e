"""Heat maps over an image: display settings, and single tiles with their values on hover."""

import base64
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from numpy.typing import NDArray

from kd.inspection.colour_scale import Scale
from kd.inspection.heat_map import HeatMap
from kd.inspection.overlay import SIGNED, outline, overlay
from kd.models.receptive_field import Box
from kd.placement import Placement
from pages.parts.compare.image_picker import Chosen
from pages.parts.shared import links
from pages.parts.shared.images import MAPS, boxed, enlarge, fitted, png
from pages.parts.shared.originals import TILE
from pages.parts.shared.theme import CHART

HOVERED = 64  # places a side: a finer grid is averaged before its values go to the browser
TRANSPARENT = [[0, "rgba(0,0,0,0)"], [1, "rgba(0,0,0,0)"]]


@dataclass(frozen=True, eq=False)
class Dress:
    """How every map on the page is drawn.

    image: at its own resolution; under: the same for maps to lie on, at most TILE pixels a side. side: of the models'
    copy, in whose pixels boxes are. mask: the evidence to outline, or None. values: shown on hover.
    """

    image: NDArray[np.uint8]
    under: NDArray[np.uint8]
    side: int
    opacity: float
    colormap: str
    mask: NDArray[np.uint8] | None
    values: bool


def dress(chosen: Chosen) -> Dress:
    """The controls: opacity in the open, the rest on demand."""
    opacity = st.slider("Opacity", 0.0, 1.0, 0.5, 0.05, key="compare_opacity", persist_state="session", width=180)
    with st.popover("Appearance", icon=":material/palette:"):
        colormap = st.selectbox("Colours", MAPS, key="compare_colours", persist_state="session")
        values = st.toggle("Show values on hover", key="compare_values", persist_state="session",
                           help="The raw value of each cell of the map's own grid.")
        links.valid("compare_outline", (True, False), True)
        marked = chosen.mask is not None and st.toggle("Outline the evidence", key="compare_outline",
                                                       persist_state="session")
    under = fitted(chosen.shown, TILE) if len(chosen.shown) > TILE else enlarge(chosen.shown)
    return Dress(chosen.shown, under, len(chosen.image), opacity, colormap or MAPS[0], chosen.mask if marked else None,
                 values)


@dataclass(frozen=True, eq=False)
class Tile:
    """One map. scale: None for the map's own range. signed: around 0. box: pixels to frame. alt: for who cannot see."""

    map: HeatMap
    caption: str
    alt: str
    scale: Scale | None = None
    signed: bool = False
    box: Box | None = None
    values: NDArray[np.float32] | None = None  # instead of the map's own


def bare(dressed: Dress) -> None:
    """The image without a map."""
    picture(dressed.image, dressed, own_caption(dressed), "The image without a heat map")


def own_caption(dressed: Dress) -> str:
    """The image's caption: with its own resolution where the models are given it enlarged."""
    own = len(dressed.image)
    return "Image" if own >= dressed.side else f"Image · {own} px, given to the models at {dressed.side} px"


def picture(pixels: NDArray[np.uint8], dressed: Dress, caption: str, alt: str) -> None:
    """An image [S, S, 3] like the one that is compared on, with the evidence where that is outlined."""
    st.image(png(outline(enlarge(pixels), dressed.mask)), caption=caption, width="stretch", output_format="PNG",
             alt=alt)


def draw(tile: Tile, dressed: Dress, key: str) -> None:
    """The image under one map; a blank map leaves it as it is, and says so."""
    blank = tile.map.blank and tile.scale is None
    caption = tile.caption + (" · blank" if tile.map.blank else "")
    pixels = png(outline(boxed(_painted(tile, dressed, blank), tile.box, dressed.side), dressed.mask))
    if dressed.values:
        st.plotly_chart(_pointed(_values(tile), pixels, tile.map.placement), config=CHART, key=key, alt=tile.alt)
        st.caption(caption, text_alignment="center")
    else:
        st.image(pixels, caption=caption, width="stretch", output_format="PNG",
                 alt=tile.alt + (", blank" if blank else ""))


def _values(tile: Tile) -> NDArray[np.float32]:
    return tile.map.values if tile.values is None else tile.values


def _painted(tile: Tile, dressed: Dress, blank: bool) -> NDArray[np.uint8]:
    if blank:
        return dressed.under
    heat = tile.scale(_values(tile)) if tile.scale else tile.map.scaled
    return overlay(dressed.under, heat, dressed.opacity, SIGNED if tile.signed else dressed.colormap,
                   tile.map.placement)


def _pointed(values: NDArray[np.float32], picture: bytes, placement: Placement | None) -> go.Figure:
    """The finished image as the background of an invisible heat map that knows the values, each of them where its cell
    lies. A map that is finer than HOVERED is averaged, and so fine that it may count as stretched."""
    step = -(-max(values.shape) // HOVERED)
    shown = _averaged(values, step)
    rows, columns = shown.shape
    laid = placement if placement and step == 1 else Placement.even((rows, columns))
    down, across = laid.edges((rows, columns))
    figure = go.Figure(go.Heatmap(
        z=np.round(shown, 6), x=across, y=down, colorscale=TRANSPARENT, showscale=False,
        customdata=np.stack(np.mgrid[:rows, :columns], axis=-1),
        hovertemplate="row %{customdata[0]}, column %{customdata[1]}: %{z:.3g}"
                      f"{f'<br>mean of {step}×{step}' if step > 1 else ''}<extra></extra>"))
    source = "data:image/png;base64," + base64.b64encode(picture).decode()
    figure.add_layout_image(source=source, xref="x", yref="y", x=0, y=0, sizex=1, sizey=1,
                            sizing="stretch", layer="below")
    figure.update_xaxes(visible=False, fixedrange=True, range=[0, 1], constrain="domain")
    figure.update_yaxes(visible=False, fixedrange=True, range=[1, 0], scaleanchor="x", constrain="domain")
    return figure.update_layout(height=180, margin={"l": 0, "r": 0, "t": 0, "b": 0}, dragmode=False,
                                plot_bgcolor="rgba(0,0,0,0)")


def _averaged(values: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Means of step × step places; the rim that does not fill a block is left to its last whole one."""
    rows, columns = (side // step * step for side in values.shape)
    blocks = values[:rows, :columns].reshape(rows // step, step, columns // step, step)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)
