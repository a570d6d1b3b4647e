"""What is kept of a teacher's answers: said where a student learns from them, freed where the teacher is shown."""

from typing import Any

import streamlit as st

from kd import lessons
from kd.runs import Run
from pages.parts.common import percent, size, store, usage_errors


def learnt(run: Run) -> None:
    """Draw how much of what a student asks its teacher was answered from disk; nothing before it has begun to ask."""
    if told := run.last("lessons"):
        st.caption(words(told))


def words(told: dict[str, Any]) -> str:
    """`Teacher's answers: 87.0 % kept from before, 41 MB on disk` of a `lessons` event."""
    share = told["share"]
    before = "all" if share == 1 else "none" if share == 0 else percent(share)
    kept = f"Teacher's answers: {before} kept from before, {size(told['bytes'])} on disk"
    return kept + (f" · the rest is not kept: {told['why']}" if told["live"] else "")


def taught(run: Run) -> None:
    """Draw what is kept for a teacher's students, and a button that frees it."""
    kept = lessons.kept_bytes(run)
    if not kept:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Its answers to its students' views are kept, {size(kept)}, so that the next student need not ask "
                   "again.", width="content")
        if st.button("Free", key="free-lessons", type="tertiary", icon=":material/mop:",
                     help="The next student asks anew, which costs one pass of the teacher for each view."):
            with usage_errors():
                freed = lessons.free(store(), run)
                st.toast(f"{size(freed)} freed.", icon=":material/mop:")
                st.rerun()
