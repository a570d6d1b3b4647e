"""Progress of one distillation with all its seeds: runs, curves and the student's maps, read from run folders."""

from collections.abc import Iterator
from functools import lru_cache

import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from kd.errors import UsageError
from kd.evaluation.run_warnings import first_epoch_line, series_warnings
from kd.jobs.queue import queue
from kd.roles import COLOURS, ROLES, STUDENT
from kd.store.groups import Distillation, Replicates, distillation_of, replicates_of
from kd.store.runs import CANCELLED, FAILED, FINISHED, INTERRUPTED, PLANNED, QUEUED, RUNNING, Store
from pages.parts.distill import teacher_cache
from pages.parts.distill.masks import mask_panel
from pages.parts.distill.stage_maps import stage_map_panel
from pages.parts.distill.status import seed_status
from pages.parts.shared import format, run_list
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.result_summary import result, result_view
from pages.parts.shared.run_warnings import show_warnings
from pages.parts.shared.theme import CHART, TERMS, tidy

BUSY, ENDED = (QUEUED, RUNNING), (FAILED, CANCELLED, INTERRUPTED, PLANNED)
POLL = 2.0  # seconds between two polls while something runs


def trios(runs: Store) -> Iterator[Distillation]:
    """All distillations whose three runs are there, latest first."""
    return (trio for run in runs if run.spec.teacher and (trio := distillation_of(runs, run)))


def find(runs: Store, run_id: str) -> Distillation:
    """The distillation that a run belongs to; a teacher of several: its latest. Raises UsageError."""
    run = runs[run_id]
    if run.spec.teacher:
        if (trio := distillation_of(runs, run)) is None:
            raise UsageError(f"The control of {run.id} has been deleted, so there is no distillation to show. "
                             "Distil it again with the same settings: what is finished is used again.")
        return trio
    for trio in trios(runs):
        if run.id in (one.id for one in trio.runs):
            return trio
    raise UsageError(f"{run.id} belongs to no distillation. It is on the Runs page.")


def latest(runs: Store) -> Distillation | None:
    """The distillation that is in training, else one that waits, else the newest; of several seeds the first."""
    found = list(trios(runs))
    now = next((trio for trio in found if any(run.status == RUNNING for run in (trio.control, trio.student))), None)
    newest = now or next((trio for trio in found if busy(trio)), found[0] if found else None)
    if now or newest is None:
        return now
    several = replicates_of(runs, newest.student)
    return several.distillations[0] if several else newest


def busy(one: Distillation | Replicates) -> bool:
    """Whether one of its runs trains or waits, in any process."""
    return any(run.status in BUSY for run in one.runs)


def title(series: Replicates) -> str:
    """`brain_tumor · densenet121 → plain5 · kd · 3 seeds`."""
    spec, several = series.pairs[0][1].spec, len(series.pairs)
    return (f"{run_list.data_name(spec)} · {series.teacher.spec.model_label} → {spec.model_label} · {spec.method_label}"
            + (f" · {several} seeds" if several > 1 else ""))


def live(trio: Distillation) -> None:
    """Draw the distillation that a trio is one seed of, and renew it while something runs."""
    # Once a script run: a poll must not read the whole store.
    series = replicates_of(store(), trio.student) or Replicates(trio.teacher, (trio.trio[1:],), trio.folds)
    polling = busy(series)

    def look() -> None:
        if polling != busy(series):
            st.rerun()  # to begin polling or to end it
        with usage_errors():
            _draw(series, trio)

    st.fragment(look, run_every=POLL if polling else None)()


def _draw(series: Replicates, trio: Distillation) -> None:
    # First, so that Cancel never waits for what is drawn below it.
    _controls(series)
    finished = all(run.status == FINISHED for run in series.runs)
    if not finished:
        seed_status(series)
    if finished or result(series):
        result_view(series, trio)
    show_warnings(series_warnings(series))
    if len(series.pairs) > 1 and any(run.epochs() for pair in series.pairs for run in pair):
        _choose(series, trio)
    if any(run.epochs() for run in trio.trio):
        left, right = st.columns([3, 2], gap="medium")
        with left:
            _curves(trio)
            teacher_cache.show_usage(trio.student)
            if started := first_epoch_line(trio.student):
                st.caption(started)
        with right:
            stage_map_panel(trio)
        mask_panel(trio.student, (trio.teacher.summary or {}).get("classes") or [])
    elif busy(trio):
        st.caption("Curves appear after the first epoch, the student's maps after its own first one.")


def _choose(series: Replicates, trio: Distillation) -> None:
    """Which seed's curves and maps are shown below; the address follows."""
    by_seed = {one.student.spec.seed: one for one in series.distillations}
    seeds = list(by_seed)
    own = trio.student.spec.seed
    chosen = st.selectbox("Curves and maps of seed", seeds, index=seeds.index(own), key=f"seed-{trio.student.id}",
                          format_func=lambda seed: f"{seed} · {_stands(by_seed[seed])}", width=260)
    if chosen is not None and chosen != own:
        st.session_state["distil_run"] = by_seed[chosen].student.id
        st.rerun()


def _stands(trio: Distillation) -> str:
    """Status of a seed: of its first run that has not finished."""
    return next((status for run in trio.runs if (status := run.status) != FINISHED), FINISHED)


def _controls(series: Replicates) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(format.plain(title(series)), anchor=False)
        with st.container(horizontal=True, width="content"):
            if busy(series):
                cancelling = any(run.cancel_requested() for run in series.runs)
                st.button("Cancelling" if cancelling else "Cancel", icon=":material/stop_circle:", disabled=cancelling,
                          on_click=cancel, args=(series,), help="Stops within a batch. Finished runs stay, and the "
                          "best weights so far are kept; Resume goes on from the last epoch.")
            elif ended := {run.status for run in series.runs}.intersection(ENDED):
                again = "Try again" if FAILED in ended else "Start" if ended == {PLANNED} else "Resume"
                st.button(again, type="primary", icon=":material/resume:", on_click=resume, args=(series,),
                          help="Trains what has not finished, from the last finished epoch on.")


def cancel(series: Replicates) -> None:
    """Stop the runs of all seeds, but none that another distillation still waits for."""
    jobs = queue(store().paths)
    own = {student.id for _, student in series.pairs}
    others = [other for other in trios(jobs.store) if other.student.id not in own and other.student.status in BUSY]
    wanted = {run.id for other in others for run in other.runs}
    for run in reversed(series.runs):
        if run.id not in wanted:
            jobs.cancel(run)


def resume(series: Replicates) -> None:
    """Queue what has not finished."""
    queue(store().paths).submit(series.runs)


def _curves(trio: Distillation) -> None:
    figure = _figure(trio, tuple(history[-1]["time"] if (history := run.epochs()) else 0.0 for run in trio.trio))
    st.plotly_chart(figure, config=CHART, key=f"curves-{trio.student.id}",
                    alt="Validation accuracy of teacher, control and student, loss terms, and the mask's area where "
                    "there is one, per epoch")


@lru_cache(maxsize=32)
def _figure(trio: Distillation, seen: tuple[float, ...]) -> go.Figure:
    """Made once per epoch for all viewers: making it takes longer than the rest of a poll. seen: the latest epochs."""
    histories = {role: run.epochs() for role, run in zip(ROLES, trio.trio, strict=True)}
    # The student's loss as soon as there is one: its terms are what distillation is about.
    shown = next(role for role in reversed(ROLES) if histories[role])
    # A mask of a set area has it in every epoch.
    masked = [] if trio.student.spec.mask_area else [one for one in histories[STUDENT] if "mask_area" in one]
    rows = 3 if masked else 2
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.16 / rows)
    for role, history in histories.items():
        if history:
            figure.add_trace(_accuracy(role, history), row=1, col=1)
    for number, term in enumerate(histories[shown][-1]["terms"]):
        figure.add_trace(_term(shown, term, TERMS[number % len(TERMS)], histories[shown]), row=2, col=1)
    figure.update_yaxes(title_text="validation accuracy", tickformat=".0%", range=[0, 1.03], row=1, col=1)
    figure.update_yaxes(title_text=f"loss of the {shown}", rangemode="tozero", row=2, col=1)
    epochs = max(run.spec.epochs for run in trio.trio)
    figure.update_xaxes(range=[0.8, epochs + 0.2], dtick=1 if epochs <= 12 else None)
    if masked:
        figure.add_trace(_area(masked), row=3, col=1)
        figure.update_yaxes(title_text="mask area", tickformat=".0%", range=[0, 1.03], row=3, col=1)
    figure.update_xaxes(title_text="epoch", row=rows, col=1)
    return tidy(figure, 215 * rows).update_layout(uirevision="kept")


def _accuracy(role: str, history: list[dict]) -> go.Scatter:
    return go.Scatter(x=[one["epoch"] + 1 for one in history], y=[one["val_accuracy"] for one in history], name=role,
                      mode="lines+markers", marker={"size": 5}, line={"color": COLOURS[role], "width": 2},
                      hovertemplate="%{y:.1%}")


def _area(history: list[dict]) -> go.Scatter:
    """The share of a validation image that the student is shown, on average."""
    return go.Scatter(x=[one["epoch"] + 1 for one in history], y=[one["mask_area"] for one in history],
                      name="mask area", mode="lines+markers", marker={"size": 5},
                      line={"color": COLOURS[STUDENT], "width": 2, "dash": "dot"}, hovertemplate="%{y:.1%}")


def _term(role: str, term: str, colour: str, history: list[dict]) -> go.Scatter:
    return go.Scatter(x=[one["epoch"] + 1 for one in history], y=[one["terms"].get(term, 0.0) for one in history],
                      name=f"{term} loss", stackgroup=role, mode="lines+markers", marker={"size": 3},
                      line={"width": 1, "color": colour}, hovertemplate="%{y:.3f}")
