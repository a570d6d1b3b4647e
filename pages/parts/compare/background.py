"""Slow explainers: computed on the queue, saved with the runs, shown from then on."""

from dataclasses import asdict

import streamlit as st

from kd.explainers import EXPLAINERS, StageChoice, stage_key
from kd.inspection.compare import Comparison, ModelPanel
from kd.inspection.saved import SavedKey, load, with_explanations
from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.store.runs import FAILED, FINISHED
from pages.parts.compare.image_picker import Chosen
from pages.parts.shared.context import store
from pages.parts.shared.format import plain

TASK = "explain"
POLL = 1.0  # seconds between two polls while something is computed
PATIENCE = {"seconds": "some seconds", "minutes": "a minute or more"}


def instant(name: str) -> bool:
    """Whether an explainer takes at most a few forward passes, so that a page can compute it while it loads."""
    return EXPLAINERS[name].info.cost == "instant"


def seat(comparison: Comparison, chosen: Chosen, explainer: str, stage: StageChoice) -> Comparison:
    """The comparison by this explainer once all its maps have been computed; until then as it is, and the way there."""
    title, shown = (EXPLAINERS[name].info.title for name in (explainer, comparison.explainer))
    if chosen.number is None:
        st.info(f"{title} is slow, so it is computed in the background and saved with the run, for test images only. "
                f"Choose a test image for it. {shown} is shown.", icon=":material/info:")
        return comparison
    wanted = SavedKey(explainer, chosen.number, comparison.target, stage_key(explainer, stage))
    found = {
        part.role: kept for part in comparison.panels if (kept := load(part.explanation.run, wanted, chosen.image))
    }
    missing = [part for part in comparison.panels if part.role not in found]
    if not missing:
        return with_explanations(comparison, found)
    with st.container(border=True):
        if any(_state(part).active for part in missing):
            st.fragment(_computing, run_every=POLL)(missing, wanted)
        else:
            _offer(missing, wanted, title, shown)
    return comparison


def _state(part: ModelPanel) -> tasks.TaskState:
    return tasks.status(part.explanation.run, TASK)


def _offer(missing: list[ModelPanel], wanted: SavedKey, title: str, shown: str) -> None:
    """A button that computes the missing maps, or the reason why they cannot be computed."""
    patience = PATIENCE[EXPLAINERS[wanted.explainer].info.cost]
    st.markdown(f"**{title}** takes {patience} for each model. It is computed in the background and saved; until "
                f"then {shown} is shown.")
    for part in missing:
        state = _state(part)
        if state.state == FAILED and dict(state.args) == asdict(wanted):
            st.error(plain(f"{part.role.capitalize()}: {state.reason}"), icon=":material/error:")
    unfinished = [part.role for part in missing if part.explanation.run.status != FINISHED]
    models = f"{len(missing)} model{'s' if len(missing) > 1 else ''}"
    st.button(f"Compute for {models}", type="primary", icon=":material/hourglass_top:", disabled=bool(unfinished),
              on_click=_submit, args=(missing, wanted))
    if unfinished:
        st.caption(f"This needs finished runs: {' and '.join(unfinished)} have not finished yet.")


def _submit(missing: list[ModelPanel], wanted: SavedKey) -> None:
    for part in missing:
        queue(store().paths).submit_task(part.explanation.run, TASK, asdict(wanted))


def _cancel(missing: list[ModelPanel]) -> None:
    for part in reversed(missing):
        queue(store().paths).cancel(tasks.task(part.explanation.run, TASK))


def _computing(missing: list[ModelPanel], wanted: SavedKey) -> None:
    """Progress of every model, read off the run folders; once all have ended the page is drawn anew."""
    states = {part.role: _state(part) for part in missing}
    if not any(state.active for state in states.values()):
        st.rerun()
    for role, state in states.items():
        words = state.phase or (state.state if state.active else "done")
        st.progress(min(1.0, max(0.0, state.share)), text=f"{role.capitalize()} · {words}")
    st.button("Cancel", icon=":material/stop_circle:", on_click=_cancel, args=(missing,))
