"""One distillation as it goes: three runs, their curves, the student's maps. All of it read from run folders."""

from collections.abc import Iterator

import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from kd.distill import Trio, trio_of
from kd.errors import UsageError
from kd.jobs import queue
from kd.runs import CANCELLED, FAILED, FINISHED, INTERRUPTED, QUEUED, RUNNING, Run, Store
from pages.parts import common, listing, progress
from pages.parts.common import CHART, COLOURS, MARKS, ROLES, STATUS, count, duration, percent, store, tidy, usage_errors
from pages.parts.outcome_view import outcome_view
from pages.parts.probe_view import probe_view

BUSY, ENDED = (QUEUED, RUNNING), (FAILED, CANCELLED, INTERRUPTED)
POLL = 1.5  # seconds between two looks while something runs
TERMS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7")  # Okabe and Ito's other hues: no loss term is taken for a role


def trios(runs: Store) -> Iterator[Trio]:
    """All distillations whose three runs are there, latest first."""
    return (trio for run in runs if run.spec.teacher and (trio := trio_of(runs, run)))


def find(runs: Store, run_id: str) -> Trio:
    """The distillation that a run belongs to; a teacher of several: its latest. Raises UsageError."""
    run = runs[run_id]
    if run.spec.teacher:
        if (trio := trio_of(runs, run)) is None:
            raise UsageError(f"The control of {run.id} has been deleted, so there is no distillation to show. "
                             "Distil it again with the same settings: what is finished is used again.")
        return trio
    for trio in trios(runs):
        if run.id in (one.id for one in trio.runs):
            return trio
    raise UsageError(f"{run.id} belongs to no distillation. It is on the Runs page.")


def latest(runs: Store) -> Trio | None:
    """The distillation that is under way, else the newest one."""
    found = list(trios(runs))
    return next((trio for trio in found if busy(trio)), found[0] if found else None)


def busy(trio: Trio) -> bool:
    """Whether one of its runs trains or waits, in any process."""
    return any(run.status in BUSY for run in trio.runs)


def title(trio: Trio) -> str:
    """`brain_tumor · densenet121 → plain5`."""
    spec = trio.student.spec
    return f"{listing.data_name(spec)} · {trio.teacher.spec.model_label} → {spec.model_label}"


def live(trio: Trio) -> None:
    """Draw a distillation, and renew it while something runs."""
    polling = busy(trio)

    def look() -> None:
        if polling != busy(trio):
            st.rerun()  # to begin polling or to end it
        with usage_errors():
            _draw(trio)

    st.fragment(look, run_every=POLL if polling else None)()


def _draw(trio: Trio) -> None:
    # First, so that Cancel never waits for what is drawn below it.
    _controls(trio)
    if all(run.status == FINISHED for run in trio.runs):
        outcome_view(trio)
    else:
        with st.container(border=True, gap="small"):
            told: set[str] = set()
            for role, run in zip(ROLES, trio.runs, strict=True):
                _row(role, run)
                if run.reason and run.reason not in told:  # what fails one for want of data fails the next as well
                    st.error(run.reason, icon=":material/error:")
                told.add(run.reason)
    if any(run.epochs() for run in trio.runs):
        left, right = st.columns([3, 2], gap="medium")
        with left:
            _curves(trio)
        with right:
            probe_view(trio)
    elif busy(trio):
        st.caption("Curves appear after the first epoch, the student's maps after its own first one.")


def _controls(trio: Trio) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(common.plain(title(trio)), anchor=False)
        with st.container(horizontal=True, width="content"):
            if busy(trio):
                asked = any(run.cancel_requested() for run in trio.runs)
                st.button("Cancelling" if asked else "Cancel", icon=":material/stop_circle:", disabled=asked,
                          on_click=cancel, args=(trio,), help="Stops within a batch. Finished runs stay, and the best "
                          "weights so far are kept; Resume goes on from the last epoch.")
            elif any(run.status in ENDED for run in trio.runs):
                again = "Try again" if any(run.status == FAILED for run in trio.runs) else "Resume"
                st.button(again, type="primary", icon=":material/resume:", on_click=resume, args=(trio,),
                          help="Goes on from the last finished epoch.")


def cancel(trio: Trio) -> None:
    """Stop the trio's runs, but none that another distillation still waits for."""
    jobs = queue(store().places)
    others = [other for other in trios(jobs.store) if other.student.id != trio.student.id
              and other.student.status in BUSY]
    wanted = {run.id for other in others for run in other.runs}
    for run in reversed(trio.runs):
        if run.id not in wanted:
            jobs.cancel(run)


def resume(trio: Trio) -> None:
    """Queue what has not finished."""
    queue(store().places).submit(trio.runs)


def _row(role: str, run: Run) -> None:
    status = run.status
    icon, colour = STATUS[status]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"{MARKS[role]} **{role.capitalize()}** · {run.spec.model_label}", width="content")
        st.badge(status, icon=icon, color=colour)
        st.caption(_words(run, status), width="content")
    if status == RUNNING:
        st.progress(progress.share(run))


def _words(run: Run, status: str) -> str:
    if status == FINISHED:
        summary = run.summary or {}
        return f"{percent(summary.get('accuracy'))} on test · trained in {duration(summary.get('seconds'))}"
    if status == RUNNING:
        return _running(run)
    done = len(run.epochs())
    if status == QUEUED:
        return "waits its turn" + (f" · goes on after epoch {done}" if done else "")
    return f"after {done} of {run.spec.epochs} epochs" if done else "before its first epoch ended"


def _running(run: Run) -> str:
    now = run.progress
    if not now.get("steps"):
        return progress.words(run)
    speed = f" · {count(round(now['images_per_second']))} images/s" if now.get("images_per_second") else ""
    return f"epoch {now['epoch'] + 1} of {now['epochs']}{speed} · {progress.words(run)}"


def _curves(trio: Trio) -> None:
    histories = {role: run.epochs() for role, run in zip(ROLES, trio.runs, strict=True)}
    # The student's loss as soon as there is one: its terms are what distillation is about.
    shown = next(role for role in reversed(ROLES) if histories[role])
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    for role, history in histories.items():
        if history:
            figure.add_trace(_accuracy(role, history), row=1, col=1)
    for number, term in enumerate(histories[shown][-1]["terms"]):
        figure.add_trace(_term(shown, term, TERMS[number % len(TERMS)], histories[shown]), row=2, col=1)
    figure.update_yaxes(title_text="validation accuracy", tickformat=".0%", range=[0, 1.03], row=1, col=1)
    figure.update_yaxes(title_text=f"loss of the {shown}", rangemode="tozero", row=2, col=1)
    epochs = max(run.spec.epochs for run in trio.runs)
    figure.update_xaxes(range=[0.8, epochs + 0.2], dtick=1 if epochs <= 12 else None)
    figure.update_xaxes(title_text="epoch", row=2, col=1)
    st.plotly_chart(tidy(figure, 430).update_layout(uirevision="kept"), config=CHART, key=f"curves-{trio.student.id}",
                    alt="Validation accuracy of teacher, control and student, and loss terms, per epoch")


def _accuracy(role: str, history: list[dict]) -> go.Scatter:
    return go.Scatter(x=[one["epoch"] + 1 for one in history], y=[one["val_accuracy"] for one in history], name=role,
                      mode="lines+markers", marker={"size": 5}, line={"color": COLOURS[role], "width": 2},
                      hovertemplate="%{y:.1%}")


def _term(role: str, term: str, colour: str, history: list[dict]) -> go.Scatter:
    return go.Scatter(x=[one["epoch"] + 1 for one in history], y=[one["terms"].get(term, 0.0) for one in history],
                      name=f"{term} loss", stackgroup=role, mode="lines+markers", marker={"size": 3},
                      line={"width": 1, "color": colour}, hovertemplate="%{y:.3f}")
