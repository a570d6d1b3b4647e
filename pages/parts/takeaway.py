"""What is shown, to take away: figure, maps and numbers."""

import json
from collections.abc import Callable
from typing import Any

import streamlit as st
from numpy.typing import NDArray

from kd.inspection.compare import Comparison
from kd.inspection.explain import pack


def takeaway(comparison: Comparison, figures: dict[str, Callable[[], bytes]], arrays: Callable[[], dict[str, NDArray]],
             numbers: Callable[[], dict[str, Any]]) -> None:
    """One button per figure, one for the raw maps, one for the numbers. Each is made when it is pressed."""
    name = f"{comparison.student.cam.run.id}-{comparison.target}".replace(" ", "_")
    with st.container(horizontal=True):
        for label, figure in figures.items():
            st.download_button(f"{label} (PNG)", figure, f"{name}-{label.lower()}.png", "image/png",
                               icon=":material/image:", on_click="ignore")
        st.download_button("Maps (npz)", lambda: pack(arrays()), f"{name}.npz", "application/octet-stream",
                           icon=":material/grid_on:", on_click="ignore")
        st.download_button("Numbers (JSON)", lambda: json.dumps(numbers(), indent=1), f"{name}.json",
                           "application/json", icon=":material/data_object:", on_click="ignore")
