"""Do they look at the same thing? One image: the teacher's Grad-CAM beside every layer of its student."""

import streamlit as st

from kd.runs import Run
from pages.parts.chrome import page
from pages.parts.common import store, usage_errors

page("Compare")

LINK = "compare_link"  # the query string as this page last wrote it: any other comes from a link or the back button


def main() -> None:
    """The whole page."""
    students = [run for run in store() if run.spec.teacher and run.weights.exists()]
    st.title("Compare", anchor=False)
    if not students:
        _nothing_yet()
        return
    _follow_link()
    with st.skeleton(height=400):
        # torch: seconds, the first time
        from pages.parts import comparing
    comparing.compare_page(students)


def _nothing_yet() -> None:
    st.markdown("A student's layers appear here beside its teacher's Grad-CAM once a student has been distilled.")
    with st.container(horizontal=True):
        st.page_link("pages/distill.py", label="Distil a student", icon=":material/science:")
        st.page_link("dashboard.py", label="Go to the demo", icon=":material/play_arrow:")


def _follow_link() -> None:
    """Take run, image and target from the address where it is not the one this page wrote itself."""
    link = st.query_params.to_dict()
    if link == st.session_state.get(LINK):
        return
    st.session_state[LINK] = link
    if run := link.get("run") or link.get("student"):
        st.session_state["compare_run"] = _student_of(run).id
        st.session_state["compare_target"] = link.get("target", "")
    if link.get("image", "").isdecimal():
        st.session_state["compare_source"] = "Test image"
        st.session_state["compare_class"], st.session_state["compare_case"] = "any class", "all images"
        st.session_state["compare_image"] = int(link["image"])


def _student_of(run_id: str) -> Run:
    """The run, or the newest student of a teacher. Raises UsageError for a run that is not there."""
    run = store()[run_id]
    pupils = (other for other in store() if other.spec.teacher == run.id and other.weights.exists())
    return run if run.spec.teacher else next(pupils, run)


with usage_errors():
    main()
