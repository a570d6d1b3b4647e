"""Progress of a task of a run, with a button to cancel it, and its start."""

from typing import Any

import streamlit as st

from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.store.runs import FAILED, QUEUED, Run
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import plain

POLL = 1.0


def task_progress(run: Run, task: str, title: str) -> bool:
    """Progress while a task is queued or running, and the reason of a failure. Returns whether it is."""
    state = tasks.status(run, task)
    if state.active:
        st.fragment(_progress, run_every=POLL)(run, task, title)
        return True
    if state.state == FAILED:
        st.error(plain(state.reason or f"{title} failed; no reason was recorded."), icon=":material/error:")
    return False


def start_task(run: Run, task: str, args: dict[str, Any]) -> None:
    """Queue a task, and draw the page anew."""
    with usage_errors():
        queue(store().paths).submit_task(run, task, args)
        st.rerun()


def _progress(run: Run, task: str, title: str) -> None:
    state = tasks.status(run, task)
    if not state.active:
        st.rerun()
    st.progress(min(1.0, max(0.0, state.share)), text=f"**{title}** · " + (
        state.phase or ("queued" if state.state == QUEUED else "starting")))
    st.button("Cancel", icon=":material/stop_circle:", on_click=_cancel, args=(run, task), key=f"{task}_cancel")


def _cancel(run: Run, task: str) -> None:
    queue(store().paths).cancel(tasks.task(run, task))
