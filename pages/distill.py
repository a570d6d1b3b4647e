"""Distil: the form of a distillation with its preview, and progress and result of those started."""

import streamlit as st

from kd.experiments.plan import DistillSpec
from kd.store.groups import Distillation
from pages.parts.distill import progress
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.layout import page

NEW, FOLLOW = ("New distillation", "Progress and result")
LINK = "distil_link"  # the query string as this page last left it: any other comes from a link or the back button


def main() -> None:
    """The whole page."""
    page("Distil")
    st.title("Distil", anchor=False)
    trio = None
    with usage_errors():
        _follow_link()
        trio = _shown()
    if trio is None:
        _new()
        return
    st.session_state.setdefault("distil_view", FOLLOW)
    view = st.segmented_control("View", (NEW, FOLLOW), key="distil_view", required=True, persist_state="session",
                                label_visibility="collapsed")
    if view == NEW:
        _write_link("")
        _new()
    else:
        _write_link(trio.student.id)
        progress.live(trio)


def _follow_link() -> None:
    """Take run and data set from the address, unless this page wrote it itself."""
    link = st.query_params.to_dict()
    if link == st.session_state.get(LINK):
        return
    st.session_state[LINK] = link
    if "run" in link:
        st.session_state["distil_run"] = link["run"]
        st.session_state["distil_view"] = FOLLOW
    elif "data" in link:
        st.session_state["distil_data"] = link["data"]
        st.session_state["distil_view"] = NEW


def _shown() -> Distillation | None:
    """The distillation to follow: the one requested, else the one under way, else the last. Raises UsageError."""
    runs = store()
    requested = st.session_state.get("distil_run")
    if requested and (requested in runs or requested == st.query_params.get("run")):
        return progress.find(runs, requested)
    return progress.latest(runs)


def _write_link(student: str) -> None:
    """The address names what is shown, so that a reload or another browser shows the same."""
    link = {"run": student} if student else {}
    st.session_state[LINK] = link
    if st.query_params.to_dict() != link:
        st.query_params.from_dict(link)


def _new() -> None:
    """Form on the left; preview and start button on the right."""
    with st.skeleton(height=500):
        # torch and timm: seconds, the first time
        from pages.parts.distill import form, preview
    left, right = st.columns(2, gap="medium")
    with left, usage_errors():
        request = form.form()
        if request is None:
            return
        with right, usage_errors():
            planned, about = preview.student_preview(request)
            above = st.container()
            if st.button("Distil", type="primary", icon=":material/science:", width="stretch"):
                _start(request)
            with above:  # last, because it takes seconds for a model that has not been timed yet
                preview.demands(planned, about, request.seeds)


def _start(request: DistillSpec) -> None:
    """Plan the runs of all seeds, queue what has not finished, and follow them."""
    from kd.experiments.plan import plan_runs
    from kd.jobs.queue import queue

    planned = plan_runs(request, store())
    queue(store().paths).submit(planned.runs)
    st.query_params.from_dict({"run": planned.distillations[0].student.id})  # the next script run follows this link
    st.rerun()


main()
