"""The compare page once there is a student: what to compare on, and the comparison itself."""

from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kd.compare import Comparison, compare
from kd.places import Places
from kd.runs import Run, Store
from pages.parts.common import ending, percent, store, usage_errors
from pages.parts.compare_view import show
from pages.parts.listing import data_name
from pages.parts.picker import Chosen, pick_image

PREDICTED = ""  # stands for whatever class the teacher predicts


def compare_page(students: list[Run]) -> None:
    """What to compare on above, what the models see below."""
    with usage_errors():
        left, right = st.columns([3, 2])
        with left:
            student = _student(students)
        with right:
            target = _target(student)
        chosen = None
        with usage_errors():
            chosen = pick_image(student)
        _write_link(student, chosen, target)
        if chosen is not None:
            with st.spinner("Asking the models"):
                comparison = compared(str(store().places.root), student.id, _stamp(student), chosen.digest, target,
                                      chosen.image)
            show(comparison, chosen)


def _student(students: list[Run]) -> Run:
    by_id = {run.id: run for run in students}
    if st.session_state.get("compare_run") not in by_id:
        st.session_state["compare_run"] = students[0].id
    chosen = st.selectbox("Student", list(by_id), format_func=lambda run_id: _label(by_id[run_id]), key="compare_run",
                          persist_state="session", filter_mode="contains")
    return by_id[chosen]


def _label(run: Run) -> str:
    """Data, teacher, student, and how well it does, the latter only once it is known."""
    spec, summary = run.spec, run.summary
    score = percent(summary["accuracy"]) if summary else run.status
    runs = store()
    teacher = f"{runs[spec.teacher].spec.model_label} → " if spec.teacher in runs else ""
    return f"{ending(data_name(spec), 28)} · {teacher}{spec.model_label} · {score} · {run.id[-4:]}"


def _target(student: Run) -> str | None:
    """The class that Grad-CAM is asked about; None for the teacher's own prediction."""
    classes = (store()[student.spec.teacher].summary or {}).get("classes", [])
    if st.session_state.get("compare_target") not in classes:
        st.session_state["compare_target"] = PREDICTED
    chosen = st.selectbox("Target class", (PREDICTED, *classes), key="compare_target", persist_state="session",
                          format_func=lambda name: name or "the teacher's prediction",
                          help="Grad-CAM shows what speaks for this class.")
    return chosen or None


def _write_link(student: Run, chosen: Chosen | None, target: str | None) -> None:
    """Keep the address at exactly this view, so that it can be shared or reloaded. An upload has no address."""
    link = {"run": student.id}
    if chosen is not None and chosen.number is not None:
        link["image"] = str(chosen.number)
    if target:
        link["target"] = target
    st.session_state["compare_link"] = link
    if st.query_params.to_dict() != link:
        st.query_params.from_dict(link)


def _stamp(student: Run) -> tuple[str, int]:
    """Changes when the student's weights or its state do."""
    return student.status, student.weights.stat().st_mtime_ns


@st.cache_data(max_entries=32, show_spinner=False)
def compared(root: str, student: str, stamp: tuple[str, int], digest: str, target: str | None,
             _image: NDArray[np.uint8]) -> Comparison:
    """The comparison, kept for who comes back to it; `digest` stands for the picture."""
    runs = Store(Places(Path(root)))
    return compare(runs, runs[student], _image, target)
