"""Teacher cache: its use by a student in training, its size on the teacher's page, and a button that clears it."""

from typing import Any

import streamlit as st

from kd.store.runs import Run
from kd.training.teacher import target_scores
from kd.training.teacher.cache import cache_bytes, clear, recorded_usage
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import size


def show_usage(run: Run) -> None:
    """Draw a student's hits in its teacher's cache, and the scores of out-of-fold targets; nothing before there are
    any."""
    if text := target_scores.sentence(run.summary):
        st.caption(text)
    if usage := recorded_usage(run):
        st.caption(describe(usage))


def describe(usage: dict[str, Any]) -> str:
    """`Teacher cache: 87 % hits, 41 MB`. usage: as `kd.training.teacher.cache.recorded_usage` gives it."""
    hit_rate = 100 * usage["hits"] // max(1, usage["hits"] + usage["misses"])  # rounded down: 100 only without a miss
    text = f"Teacher cache: {hit_rate} % hits, {size(usage['bytes'])}"
    return text + (f" · new outputs are not cached: {usage['disabled']}" if usage["disabled"] else "")


def show_cache(run: Run) -> None:
    """Draw the size of a teacher's cache, and a button that clears it; nothing where it is empty."""
    used = cache_bytes(run)
    if not used:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Teacher cache: {size(used)} of outputs for its next students.", width="content")
        if st.button("Clear teacher cache", key="clear-teacher-cache", type="tertiary", icon=":material/mop:",
                     help="The next student's teacher computes them again: one forward pass for each augmented view."):
            with usage_errors():
                freed = clear(store(), run)
                st.toast(f"{size(freed)} freed.", icon=":material/mop:")
                st.rerun()
