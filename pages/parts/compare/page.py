"""The compare page: the comparison of one image, with its tabs."""

from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kd.explainers import DEFAULT_STAGE, EXPLAINERS, FORWARD_ONLY, Explainer, StageChoice, offered
from kd.inspection.compare import CAM, HIERARCHY, Comparison, compare
from kd.inspection.model_pool import load_model
from kd.models.base import Classifier
from kd.paths import Paths
from kd.roles import OTHERS
from kd.store.eight_bit import EightBit, run_or_form
from kd.store.files import modified
from kd.store.runs import Run, Store
from pages.parts.compare import answer, background, channels, decision, maps, url_state
from pages.parts.compare.cam_check import cam_check
from pages.parts.compare.costs import costs, probabilities
from pages.parts.compare.image_picker import Chosen, pick_image
from pages.parts.shared import links
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import ending
from pages.parts.shared.run_list import data_name, ending_of
from pages.parts.shared.run_warnings import data_verdict, score

PREDICTED = ""  # stands for whatever class the teacher predicts
VIEWS = {url_state.MAPS: "Maps", url_state.DECISION: "Linear probes", url_state.CHANNELS: "Channels"}
DEPTH = 6  # stages offered, counted from the end


def compare_page(students: list[Run]) -> None:
    """The answer on top, choices below it, then the comparison."""
    top = st.container()
    with usage_errors():
        left, middle, right = st.columns([5, 3, 3])
        with left:
            student = _student(students)
        with middle:
            target = _target(student)
        with right:
            others = _beside(student, students)
        chosen = None
        with usage_errors():
            chosen = pick_image(student)
        explainer: str = CAM
        stage: StageChoice = DEFAULT_STAGE
        if chosen is not None:
            with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
                _view()
                runs = [store()[student.spec.teacher], student, *others]
                explainer, stage = _explainer(runs), _stage(runs)
        url_state.write(student, chosen.number if chosen is not None else None)
        if chosen is not None:
            with st.spinner("Running the models"):
                shown_now = explainer if background.instant(explainer) else usual(runs)
                comparison = compared(str(store().paths.root), student.id, _stamp(student, *others), chosen.digest,
                                      target, shown_now, stage, tuple(other.id for other in others), chosen.image)
            if explainer != shown_now and st.session_state["compare_view"] == url_state.MAPS:
                comparison = background.seat(comparison, chosen, explainer, stage)
            comparison = answer.answered(comparison, chosen, stage)
            with top:
                answer.draw(comparison)
            show(comparison, chosen, st.session_state["compare_view"])


def _student(students: list[Run]) -> Run:
    by_id = {run.id: run for run in students}
    links.valid("compare_run", tuple(by_id), students[0].id)
    chosen = st.selectbox("Student", list(by_id), format_func=lambda run_id: label(by_id[run_id]), key="compare_run",
                          persist_state="session", filter_mode="contains")
    return by_id[chosen]


def label(run: Run) -> str:
    """Data, teacher, student, and how well it does, the latter only once it is known."""
    spec = run.spec
    runs = store()
    teacher = f"{runs[spec.teacher].label} → " if spec.teacher in runs else ""
    return f"{ending(data_name(spec), 28)} · {teacher}{run.label} · {spec.method} · {score(run)} · {ending_of(run)}"


def _short(run: Run) -> str:
    return f"{run.label} · {run.spec.method} · {score(run)} · {ending_of(run)}"


def _target(student: Run) -> str | None:
    """The class to explain; None for the teacher's own prediction."""
    classes = (store()[student.spec.teacher].summary or {}).get("classes", [])
    links.valid("compare_target", tuple(classes), PREDICTED)
    chosen = st.selectbox("Target class", (PREDICTED, *classes), key="compare_target", persist_state="session",
                          format_func=lambda name: name or "the teacher's prediction",
                          help="Class-specific maps show the evidence for this class.")
    return chosen or None


def _beside(student: Run, students: list[Run]) -> list[Run]:
    """Further students of the same images at the same size; nothing is offered where there are none."""
    spec = student.spec
    by_id = {run.id: run for run in students if run.id != student.id and run.spec.data == spec.data
             and run.spec.data_fingerprint == spec.data_fingerprint and run.spec.image_size == spec.image_size}
    named = st.session_state.get("compare_beside", [])
    st.session_state["compare_beside"] = [run_id for run_id in named if run_id in by_id][:len(OTHERS)]
    if not by_id:
        return []
    chosen = st.multiselect("More students", list(by_id), format_func=lambda run_id: _short(by_id[run_id]),
                            key="compare_beside", max_selections=len(OTHERS), persist_state="session",
                            placeholder="no other student", filter_mode="contains",
                            help="Up to three further students of the same images at the same size.")
    return [by_id[run_id] for run_id in chosen]


def _view() -> None:
    links.valid("compare_view", url_state.VIEWS, url_state.MAPS)
    st.segmented_control("View", url_state.VIEWS, format_func=VIEWS.__getitem__, key="compare_view", required=True,
                         persist_state="session")


def _explainer(runs: list[Run]) -> str:
    """The explainer of the maps; the other tabs have their own."""
    names = offered(runs)
    links.valid("compare_explainer", names, usual(runs))
    if st.session_state["compare_view"] != url_state.MAPS:
        return str(st.session_state["compare_explainer"])
    forward = any(isinstance(run, EightBit) for run in runs)
    return st.selectbox("Explainer", names, format_func=_explained, width=230, key="compare_explainer",
                        persist_state="session", filter_mode="contains",
                        help=FORWARD_ONLY if forward else None) or usual(runs)


def usual(runs: list[Run]) -> str:
    """The explainer that is shown where none is chosen, or until a slow one has been computed: Grad-CAM, and stage maps
    for an 8-bit student without class maps."""
    return CAM if CAM in offered(runs) else HIERARCHY


def _explained(name: str) -> str:
    return EXPLAINERS[name].info.title + ("" if background.instant(name) else " · slow")


def _stage(runs: list[Run]) -> StageChoice:
    """Counted from the end, because teacher and student differ in depth; the explainer's own comes first."""
    explainer = EXPLAINERS[st.session_state["compare_explainer"]]
    models = [load_model(run).model for run in runs]
    last = 1 if explainer.info.reduction is None else 0  # the last stage is the explainer's own
    places = (0, *(-1 - place for place in range(last, min(DEPTH, *(len(model.stages) for model in models)))))
    if explainer is EXPLAINERS[CAM] and any(isinstance(run, EightBit) for run in runs):
        places = (0,)
    links.valid("compare_stage", places, 0)
    if st.session_state["compare_view"] != url_state.MAPS:
        return st.session_state["compare_stage"] or DEFAULT_STAGE
    if explainer.info.grid != "stage":
        return DEFAULT_STAGE  # its map lies on the image
    names = {place: _stage_name(*(_of(model, explainer, place) for model in models[:2])) for place in places}
    return st.selectbox("Stage", places, format_func=names.__getitem__, width=240,
                        key="compare_stage", persist_state="session",
                        help="Of the student, and at the same distance from the end of every other model. An earlier "
                             "stage has a finer grid and a smaller receptive field.") or DEFAULT_STAGE


def _of(model: Classifier, explainer: Explainer, place: int) -> str:
    """`4 of 5`, of a stage counted from the end, or the explainer's own at 0."""
    return f"{explainer.stage_of(model, place or DEFAULT_STAGE) + 1} of {len(model.stages)}"


def _stage_name(teacher: str, student: str) -> str:
    """`Stage 4 of 5`, with the teacher's where that is another."""
    return f"Stage {student}" if teacher == student else f"Stage {student} (teacher: {teacher})"


def _stamp(*runs: Run) -> tuple[tuple[str, int], ...]:
    """Changes when a student's weights or its state do."""
    return tuple((run.status, modified(run.weights)) for run in runs)


@st.cache_data(max_entries=32, show_spinner=False)
def compared(root: str, student: str, stamp: tuple[tuple[str, int], ...], digest: str, target: str | None,
             explainer: str, stage: StageChoice, others: tuple[str, ...], _image: NDArray[np.uint8]) -> Comparison:
    """The comparison, cached; `digest` identifies the image."""
    runs = Store(Paths(Path(root)))
    return compare(runs, run_or_form(runs, student), _image, target, explainer=explainer, stage=stage,
                   others=[run_or_form(runs, other) for other in others])


def show(comparison: Comparison, chosen: Chosen, view: str) -> None:
    """Draw everything that belongs to one comparison."""
    for note in comparison.notes:
        st.info(note, icon=":material/info:")
    data_verdict(comparison.student.explanation.run)
    draw = {url_state.MAPS: _maps, url_state.DECISION: decision.decision, url_state.CHANNELS: channels.channels}
    draw[view](comparison, chosen)


def _maps(comparison: Comparison, chosen: Chosen) -> None:
    maps.maps(comparison, chosen)
    left, right = st.columns([1, 2], gap="large")
    with left:
        probabilities(comparison, chosen.truth)
    with right:
        costs(comparison)
    cam_check(comparison)
