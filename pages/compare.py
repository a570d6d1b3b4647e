"""Compare: heat maps of teacher and student for one image, and every stage of either."""

import streamlit as st

from kd.store.eight_bit import with_forms
from pages.parts.compare import url_state
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.layout import page

page("Compare")


def main() -> None:
    """The whole page."""
    students = with_forms([run for run in store()
                           if run.spec.teacher and run.weights.exists() and not run.damaged_file])
    st.title("Compare", anchor=False)
    if not students:
        _nothing_yet()
        return
    url_state.follow()
    with st.skeleton(height=400):
        # torch: seconds, the first time
        from pages.parts.compare import page as compare_page
    compare_page.compare_page(students)


def _nothing_yet() -> None:
    st.markdown("A student's stage maps appear here beside its teacher's Grad-CAM once a student has been distilled.")
    with st.container(horizontal=True):
        st.page_link("pages/distill.py", label="Distil a student", icon=":material/science:")
        st.page_link("dashboard.py", label="Go to the demo", icon=":material/play_arrow:")


with usage_errors():
    main()
