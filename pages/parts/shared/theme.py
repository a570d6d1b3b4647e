"""Colours, icons and chart style: one per role and status on every page."""

from collections.abc import Sequence
from typing import Literal

import plotly.graph_objects as go

from kd.store.runs import CANCELLED, DAMAGED, FAILED, FINISHED, INTERRUPTED, PLANNED, QUEUED, RUNNING

# Of loss terms: Okabe and Ito's other hues, so that none is taken for a role, and three more for a method of many.
TERMS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#999933", "#8A63D2", "#A0522D")
NEUTRAL = "#8A8F94"  # of what is no role


Badge = Literal["blue", "gray", "green", "orange", "red"]


STATUS: dict[str, tuple[str, Badge]] = {  # status -> (icon, st.badge colour)
    PLANNED: (":material/event:", "gray"), QUEUED: (":material/schedule:", "gray"),
    RUNNING: (":material/play_circle:", "blue"), FINISHED: (":material/check_circle:", "green"),
    FAILED: (":material/error:", "red"), CANCELLED: (":material/cancel:", "gray"),
    INTERRUPTED: (":material/pause_circle:", "orange"), DAMAGED: (":material/broken_image:", "red"),
}


# Where only plain text can stand, as in the cells of a table.
STATUS_WORDS = {PLANNED: "· planned", QUEUED: "◌ queued", RUNNING: "▶ running", FINISHED: "✓ finished",
                FAILED: "✕ failed", CANCELLED: "■ cancelled", INTERRUPTED: "❚❚ interrupted", DAMAGED: "✕ damaged"}


def tidy(figure: go.Figure, height: int = 280) -> go.Figure:
    """Chart style of all pages: legend on top, no frame, room for labels, and names as names."""
    figure.update_layout(height=height, margin={"l": 8, "r": 8, "t": 36, "b": 8}, hovermode="x unified",
                         legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None,
                              "traceorder": "normal"})
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(automargin=True, zeroline=False)
    for axis, update in (("x", figure.update_xaxes), ("y", figure.update_yaxes)):
        if any(_are_names(trace[axis]) for trace in figure.data):
            update(type="category")
    return figure


def _are_names(values: Sequence[object] | None) -> bool:
    """Whether the places of a trace are texts: class names such as `0`, `1E2` or `2019-01` are no numbers or dates,
    which plotly would take them for."""
    return values is not None and len(values) > 0 and all(isinstance(value, str) for value in values)


CHART = {"displayModeBar": False, "scrollZoom": False}  # plotly's toolbar only distracts here
