"""The models of a comparison: names, colours, and the choice of one whose stages are read."""

from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kd.inspection.compare import Comparison, ModelPanel
from kd.inspection.layer_report import LayerReport
from kd.inspection.layers import read_layers
from kd.inspection.linear_probes import FACTS
from kd.paths import Paths
from kd.roles import MARKS, STUDENT
from kd.store.eight_bit import EightBit
from kd.store.files import modified
from kd.store.runs import Run, Store
from pages.parts.compare.image_picker import Chosen
from pages.parts.shared import links
from pages.parts.shared.context import store
from pages.parts.shared.format import percent

TOP = 8  # channels named per stage


def who(comparison: Comparison) -> str:
    """The run of each role, in a line of Markdown."""
    return " · ".join(f"{MARKS[part.role]} {part.role.capitalize()}: {_described(part.explanation.run)}"
                      for part in comparison.panels)


def _described(run: Run) -> str:
    score = f", {percent(run.summary['accuracy'])}" if run.summary else ""
    method = f" by {run.spec.method_label}" if run.spec.teacher else ""
    return f"{run.label}{method}{score}"


def pick(comparison: Comparison, gradients: bool = True) -> ModelPanel:
    """The model whose stages are read; by default the student. gradients: whether they are needed, so that an 8-bit
    student is not offered."""
    parts = [part for part in comparison.panels if not (gradients and isinstance(part.explanation.run, EightBit))]
    roles = tuple(part.role for part in parts)
    links.valid("compare_of", roles, STUDENT if STUDENT in roles else roles[-1])
    role = st.segmented_control("Of", roles, required=True, key="compare_of", format_func=str.capitalize,
                                label_visibility="collapsed", persist_state="session")
    if len(parts) < len(comparison.panels):
        st.caption("Not of an 8-bit student, which has no gradients.", width="content")
    return next(part for part in parts if part.role == role)


def layers(part: ModelPanel, comparison: Comparison, chosen: Chosen) -> LayerReport:
    """The part's run read stage by stage, about the class that the comparison asks about."""
    run = part.explanation.run
    readouts = run.path / FACTS
    stamp = (run.status, modified(run.weights), modified(readouts))
    with st.spinner("Computing the stages"):
        return _layers(str(store().paths.root), run.id, stamp, chosen.digest, comparison.target, comparison.image)


@st.cache_data(max_entries=32, show_spinner=False)
def _layers(root: str, run: str, stamp: tuple[str, int, int], digest: str, target: str,
            _image: NDArray[np.uint8]) -> LayerReport:
    return read_layers(Store(Paths(Path(root)))[run], _image, target, top=TOP, repeats=3)
