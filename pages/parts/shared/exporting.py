"""Progress of an export, and its start: on a run's page, and where an 8-bit student is missing."""

import streamlit as st

from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.store.runs import FAILED, QUEUED, Run
from pages.parts.shared.context import store, usage_errors

TASK, POLL = "export", 1.0


def export_progress(run: Run) -> bool:
    """Progress while a run is exported, and the reason of a failure. Returns whether it is being exported."""
    state = tasks.status(run, TASK)
    if state.active:
        st.fragment(_exporting, run_every=POLL)(run)
        return True
    if state.state == FAILED:
        st.error(state.reason or "The export failed; no reason was recorded.", icon=":material/error:")
    return False


def start_export(run: Run, format: str, int8: bool) -> None:
    """Queue an export, and draw the page anew."""
    with usage_errors():
        queue(store().paths).submit_task(run, TASK, {"format": format, "int8": int8})
        st.rerun()


def _exporting(run: Run) -> None:
    state = tasks.status(run, TASK)
    if not state.active:
        st.rerun()
    st.progress(min(1.0, max(0.0, state.share)), text="**Export** · " + (
        state.phase or ("queued" if state.state == QUEUED else "starting")))
    st.button("Cancel", icon=":material/stop_circle:", on_click=_cancel, args=(run,), key="export_cancel")


def _cancel(run: Run) -> None:
    queue(store().paths).cancel(tasks.task(run, TASK))
