"""One comparison on the screen, in the view that was chosen."""

import streamlit as st

from kd.inspection.compare import Comparison
from pages.parts import address, channels_view, decision_view, maps_view
from pages.parts.compare_facts import costs, probabilities
from pages.parts.picker import Chosen


def show(comparison: Comparison, chosen: Chosen, view: str) -> None:
    """Draw everything that belongs to one comparison."""
    for note in comparison.notes:
        st.info(note, icon=":material/info:")
    draw = {address.MAPS: _maps, address.DECISION: decision_view.decision, address.CHANNELS: channels_view.channels}
    draw[view](comparison, chosen)


def _maps(comparison: Comparison, chosen: Chosen) -> None:
    maps_view.maps(comparison, chosen)
    left, right = st.columns([1, 2], gap="large")
    with left:
        probabilities(comparison, chosen.truth)
    with right:
        costs(comparison)
