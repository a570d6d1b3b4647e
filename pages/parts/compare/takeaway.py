"""Downloads of a comparison: its figures as they are on screen, the raw maps, the numbers."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st
from numpy.typing import NDArray

from kd.inspection import figure
from kd.inspection.compare import Comparison
from kd.inspection.explain import pack
from pages.parts.compare.image_picker import Chosen
from pages.parts.compare.tiles import Dress
from pages.parts.shared.run_list import data_name

TYPES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}


def takeaway(comparison: Comparison, chosen: Chosen, dressed: Dress | None, sheets: Mapping[str, figure.FigureSpec],
             arrays: Callable[[], dict[str, NDArray]], numbers: Callable[[], dict[str, Any]]) -> None:
    """A button per figure and kind of file, one for the raw maps, one for the numbers. Each is made when it is pressed.

    sheets: the figures by what they show. dressed: how maps are drawn; None for the usual.
    """
    look = (dressed.opacity, dressed.colormap, dressed.under) if dressed else (figure.OPACITY, figure.COLORMAP, None)
    name = file_name(comparison, chosen)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control("Figures as", figure.KINDS, default=figure.KINDS[0], required=True,
                                    format_func=str.upper, key="compare_kind") or figure.KINDS[0]
        for what, sheet in sheets.items():
            seen = replace(sheet, mask=dressed.mask if dressed else None, case=case_line(comparison, chosen))
            label = "Figure" if what == "maps" else "Stages"
            st.download_button(f"{label} ({kind.upper()})", partial(figure.draw, seen, *look, kind, figure.PRINT),
                               f"{name}-{what}.{kind}", TYPES[kind], icon=":material/image:", on_click="ignore",
                               help="As it is on screen, with outline, colours and opacity, for print (300 dpi).")
        st.download_button("Maps (npz)", lambda: pack(arrays()), f"{name}.npz", "application/octet-stream",
                           icon=":material/grid_on:", on_click="ignore")
        st.download_button("Numbers (JSON)", lambda: json.dumps(numbers(), indent=1), f"{name}.json",
                           "application/json", icon=":material/data_object:", on_click="ignore")


def file_name(comparison: Comparison, chosen: Chosen) -> str:
    """Name without ending of a comparison's files, another for every run, explainer, stage, class and image."""
    one = comparison.student.explanation
    image = f"image{chosen.number}" if chosen.number is not None else f"upload-{chosen.digest[:8]}"
    words = (one.run.id, comparison.explainer, one.maps[0].place, comparison.target, image)
    return "-".join(re.sub(r"[^\w.-]+", "_", word)[:80] for word in words)


def case_line(comparison: Comparison, chosen: Chosen) -> str:
    """Which image a figure shows: data set, number and name in it, true class."""
    if chosen.number is None:
        return "An uploaded image; its true class is not known."
    data = data_name(comparison.student.explanation.run.spec)
    return f"Data set {data}, test image {chosen.number} ({chosen.name}), true class: {chosen.truth}."
