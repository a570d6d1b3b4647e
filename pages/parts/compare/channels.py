"""The channels that contribute most to the target class, with their maps."""

import streamlit as st

from kd.inspection import colour_scale
from kd.inspection.compare import Comparison
from kd.inspection.layer_report import LAYER_PLOTS, LayerReport, StageResult
from kd.metrics.grids import coarse_note
from pages.parts.compare import roles, url_state
from pages.parts.compare.image_picker import Chosen
from pages.parts.compare.maps import class_badge
from pages.parts.compare.takeaway import takeaway
from pages.parts.compare.tiles import Dress, Tile, bare, draw, dress
from pages.parts.shared import links
from pages.parts.shared.format import plain
from pages.parts.shared.images import coarse, colour_bar


def channels(comparison: Comparison, chosen: Chosen) -> None:
    """A fragment: other colours or another stage are drawn without computing anything else."""
    st.fragment(_channels)(comparison, chosen)


def _channels(comparison: Comparison, chosen: Chosen) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(f"Channels contributing to “{plain(comparison.target)}”", anchor=False, width="content")
        class_badge(LAYER_PLOTS["channels"].class_specific)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        part = roles.pick(comparison)
        read = roles.layers(part, comparison, chosen)
        view = _stage(read)
        dressed = dress(chosen)
    _tiles(view, dressed)
    coarse(coarse_note([(view.stage_map.place, view.stage_map.values.shape)]))
    st.caption(f"{LAYER_PLOTS['channels'].reading_note} {_sum(read, view)}")
    takeaway(comparison, chosen, dressed, {f"stages-of-{part.role}": read.figure_spec()},
             lambda: {"image": read.image, **read.arrays()}, read.to_json)
    url_state.renew()


def _stage(read: LayerReport) -> StageResult:
    """Counted from the end in the address, so that it means the same for a deeper model."""
    offered = tuple(range(-len(read.stages), 0))
    links.valid("compare_channels_of", offered, -1)
    chosen = st.selectbox("Stage", offered, key="compare_channels_of", persist_state="session", width=170,
                          format_func=lambda place: read.stages[place].stage_map.label.capitalize())
    return read.stages[chosen]


def _tiles(view: StageResult, dressed: Dress) -> None:
    """One scale: the channels of one stage are features of one kind."""
    scale = colour_scale.shared_scale([one.map.values for one in view.channels])
    with st.grid(min_column_width=130, gap="small"):
        bare(dressed)
        for number, one in enumerate(view.channels):
            with st.container(gap="xxsmall"):
                draw(Tile(one.map, f"Channel {one.number} · {one.contribution:+.2g}",
                          f"Channel {one.number} adds {one.contribution:.2g}", scale), dressed, f"channel-{number}")
    if scale is not None:
        colour_bar(dressed.colormap, f"{scale.low:.2g}", f"{scale.high:.2g}")


def _sum(read: LayerReport, view: StageResult) -> str:
    """What the channels shown add, and all."""
    shown, every = sum(one.contribution for one in view.channels), float(view.contributions.sum())
    text = (f"These {len(view.channels)} of {len(view.contributions)} channels add {shown:+.2g} to the score; "
            f"all channels {every:+.2g}{', because others contradict the class' if every < shown else ''}.")
    if read.bias is not None and view is read.stages[-1]:
        text += f" Adding the class's bias of {read.bias:+.2g} gives the model's score."
    return text
