"""The form and the progress of an evaluation of explanations."""

import streamlit as st

from kd.evaluation.explanation_store import (
    AGREEMENT,
    COST,
    EVIDENCE,
    FAITHFULNESS,
    FALLBACK,
    LOCALISATION,
    MASK,
    POSTHOC,
    SECTIONS,
    EvalKey,
    compared_runs,
    require_mask,
)
from kd.explainers import DEFAULT_STAGE, EXPLAINERS, FORWARD_ONLY, StageChoice, offered, stage_key
from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.store.eight_bit import EightBit
from kd.store.runs import CANCELLED, FAILED, FINISHED, INTERRUPTED, QUEUED, Run
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import plain

TASK = "appraisal"
POLL = 1.0  # seconds between two polls while it is computed
LIMIT = 200  # images: minutes for all that is instant, and intervals of a few points
STAGES: dict[int | str, str] = {DEFAULT_STAGE: "default", -1: "last", -2: "second to last", -3: "third to last"}
PARTS = {AGREEMENT: "agreement with the teacher", LOCALISATION: "the evidence: localisation and need",
         POSTHOC: "post-hoc agreement of the mask (slow)", FAITHFULNESS: "faithfulness (slow)", COST: "cost"}
PATIENCE = {"instant": "", "seconds": " · slow", "minutes": " · very slow"}


def request_form(student: Run, first: bool) -> bool:
    """Progress while one is computed, else the form; `first` opens it. Returns whether one is computed now."""
    state = tasks.status(student, TASK)
    if state.active:
        st.fragment(_computing, run_every=POLL)(student)
        return True
    if state.state == FAILED:
        st.error(plain(state.reason or "It failed; no reason was recorded."), icon=":material/error:")
    elif state.state in (CANCELLED, INTERRUPTED):
        st.caption(f"The last evaluation was {state.state}. Finished parts are saved; evaluate again to go on.")
    if first:
        _form(student)
    else:
        with st.expander("Re-evaluate, or add another explainer", icon=":material/add:"):
            _form(student)
    return False


def requested(student: Run) -> tuple[EvalKey | None, float]:
    """The choice submitted last whose computation has finished, and when it ended."""
    state = tasks.status(student, TASK)
    args = state.args
    if state.state != FINISHED or not args.get("explainers"):
        return None, 0.0
    name = args["explainers"][0]
    return EvalKey(name, stage_key(name, args["stage"]), args["limit"], args["seed"]).of(student), state.ended


def _form(student: Run) -> None:
    """The form; for a student with a mask network the mask is the default explainer."""
    names_offered = offered(compared_runs(store(), student).values())
    explained = bool(student.spec.mask_net_depth)
    # Need of the evidence comes with its localisation.
    sections = [section for section in SECTIONS if section != EVIDENCE and (explained or section != POSTHOC)]
    usual = FALLBACK if FALLBACK in names_offered else names_offered[0]
    # Other options: other widgets, with their own state.
    kind = f"{MASK in names_offered:d}{explained:d}" + "q" * isinstance(student, EightBit)
    with st.form("evaluate_judge"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            names = st.multiselect("Explainers", names_offered, default=[MASK, usual] if explained else [usual],
                                   key=f"evaluate_explainers_{kind}", format_func=_title, width=420)
            stage = st.selectbox("Stage", list(STAGES), format_func=STAGES.__getitem__, key="evaluate_stage", width=170,
                                 help="Counted from the end of each model; default: the last, but a fine one for "
                                      "Sensitivity. An earlier one has a finer grid.")
            limit = st.number_input("Test images", 0, None, LIMIT, 50, key="evaluate_limit", width=150,
                                    help="A sample of at most so many, stratified by class; 0 for all.")
        parts = st.pills("Parts", sections, selection_mode="multi", key=f"evaluate_parts_{kind}",
                         default=[section for section in sections if section != FAITHFULNESS],
                         format_func=PARTS.__getitem__)
        pressed = st.form_submit_button("Evaluate explanations", type="primary", icon=":material/rule:")
        st.caption("Computed in the background, after queued trainings, and saved with the run. Faithfulness needs "
                   "dozens of forward passes of each model for every image"
                   + (", post-hoc agreement of the teacher alone." if explained else ".")
                   + (f" {FORWARD_ONLY}" if isinstance(student, EightBit) else ""))
    if pressed:
        with usage_errors():
            _submit(student, names, list(parts), stage, int(limit))


def _title(name: str) -> str:
    facts = EXPLAINERS[name].info
    return facts.title + PATIENCE[facts.cost]


def _submit(student: Run, names: list[str], parts: list[str], stage: StageChoice, limit: int) -> None:
    if not names or not parts:
        st.warning("Choose at least one explainer and one part.", icon=":material/info:")
        return
    require_mask(compared_runs(store(), student), names, POSTHOC in parts)
    queue(store().paths).submit_task(student, TASK, {"explainers": names, "stage": stage, "limit": limit, "seed": 0,
                                              **{part.replace("-", ""): part in parts for part in SECTIONS}})
    st.rerun()


def _computing(student: Run) -> None:
    """Read off the run's folder; once it has ended the page is drawn anew."""
    state = tasks.status(student, TASK)
    if not state.active:
        st.rerun()
    waits = state.state == QUEUED
    with st.container(border=True):
        st.progress(min(1.0, max(0.0, state.share)), text=state.phase or (
            "queued" if waits else "starting"))
        st.button("Cancel", icon=":material/stop_circle:", on_click=_cancel, args=(student,), key="evaluate_cancel",
                  help="Stops within a batch. Finished parts are saved.")


def _cancel(student: Run) -> None:
    queue(store().paths).cancel(tasks.task(student, TASK))
