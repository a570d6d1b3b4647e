"""Progress of a sweep, with buttons to cancel and continue it. Read from run folders, as everything on this page."""

import streamlit as st

from kd.experiments.sweep import Cell, Sweep, planned_cells
from kd.experiments.sweep.explanation_times import TASK, missing
from kd.experiments.sweep.progress import SweepStatus, place, sweep_status
from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.store.groups import Distillation
from kd.store.runs import FAILED, FINISHED, INTERRUPTED, RUNNING, Run, Store
from pages.parts.shared import run_list, run_progress
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import plain, rough
from pages.parts.sweep.charts import named, text

POLL = 2.0  # seconds between two polls while something runs


def title(sweep: Sweep, cells: tuple[Cell, ...]) -> str:
    """`phantom-brain · resnet18 · depth 3, 5 · α 0.4, 0.7`."""
    runs = store()
    spec = runs[cells[0].teacher].spec if cells and cells[0].teacher in runs else None
    axes = [f"{named(name)} {', '.join(map(text, values))}" for name, values in sweep.axes.items()]
    data = run_list.data_name(spec) if spec else sweep.base.data
    return " · ".join([data, spec.model_label if spec else sweep.base.teacher, *axes])


def measuring(sweep: Sweep, teacher: str) -> tasks.TaskState | None:
    """The timing of this sweep's explanations, where it was ever requested."""
    if teacher not in store():
        return None
    state = tasks.status(store()[teacher], TASK)
    return state if state.args.get("sweep") == sweep.id else None


def live(sweep: Sweep) -> SweepStatus:
    """Draw how far it is, and renew that while something runs; whenever a run ends, the whole page is drawn anew.

    Once nothing is left to train, the timing of the explanations is queued, unless it was tried before.
    """
    cells = planned_cells(sweep, store())
    first = sweep_status(cells, store())
    if first.finished == first.runs and _untried(sweep, cells) and missing(sweep, store()):
        measure(sweep)  # it ended while the page was not open
    polling = busy(sweep, cells, first)

    def look() -> None:
        now = sweep_status(cells, store())
        if first.active and not now.active and missing(sweep, store()):
            measure(sweep)
        if (now.finished, busy(sweep, cells, now)) != (first.finished, polling):
            st.rerun()
        with usage_errors():
            _draw(sweep, cells, now)

    st.fragment(look, run_every=POLL if polling else None)()
    return first


def busy(sweep: Sweep, cells: tuple[Cell, ...], now: SweepStatus) -> bool:
    """Whether one of its runs, or the timing of its explanations, waits or is carried out, in any process."""
    state = measuring(sweep, cells[0].teacher) if cells else None
    return bool(now.active) or bool(state and state.active)


def _untried(sweep: Sweep, cells: tuple[Cell, ...]) -> bool:
    state = measuring(sweep, cells[0].teacher)
    return state is None or state.state == INTERRUPTED


def measure(sweep: Sweep) -> None:
    """Ask the queue to time the explanations, behind all that waits."""
    teacher = planned_cells(sweep, store())[0].teacher
    runs = store()
    if teacher in runs and runs[teacher].status == FINISHED:
        queue(runs.paths).submit_task(runs[teacher], TASK, {"sweep": sweep.id})


def _draw(sweep: Sweep, cells: tuple[Cell, ...], now: SweepStatus) -> None:
    with st.container(border=True, gap="small"):
        # First, so that Cancel never waits for what is drawn below it.
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{now.done} of {now.cells} cells** · {now.finished} of {now.runs} runs", width="content")
            _controls(sweep, cells, now)
        if now.active or now.finished < now.runs:
            st.progress(now.share)
        for line in _lines(sweep, cells, now):
            st.caption(line)


def _controls(sweep: Sweep, cells: tuple[Cell, ...], now: SweepStatus) -> None:
    if now.active:
        cancelling = all(run.cancel_requested() for run in now.active)
        st.button("Cancelling" if cancelling else "Cancel", icon=":material/stop_circle:", disabled=cancelling,
                  on_click=cancel, args=(cells,),
                  help="Stops within a batch. Finished runs stay; Continue goes on from there.")
    elif now.finished < now.runs:
        again = "Try again" if any(run.status == FAILED for run in now.ended) else "Continue"
        if st.button(again, type="primary", icon=":material/resume:", help="Trains what has not finished."):
            start(sweep)
            st.rerun()


def start(sweep: Sweep) -> None:
    """Plan what is missing and queue what has not finished. Raises UsageError."""
    from kd.experiments.sweep import unfinished_runs

    queue(store().paths).submit(unfinished_runs(sweep, store()))


def cancel(cells: tuple[Cell, ...]) -> None:
    """Stop this sweep's runs, but no teacher or control that another student in the queue still waits for."""
    jobs = queue(store().paths)
    own = list(dict.fromkeys(run_id for cell in cells for run_id in cell.ids))
    wanted = _wanted_elsewhere(jobs.store, set(own))
    for run_id in reversed(own):
        if run_id in jobs.store and run_id not in wanted:
            jobs.cancel(jobs.store[run_id])


def _wanted_elsewhere(runs: Store, own: set[str]) -> set[str]:
    from kd.store.groups import distillation_of

    others: list[Run] = [entry.run for entry in run_list.active(runs) if entry.run.id not in own and entry.spec.teacher]
    trios: list[Distillation] = [trio for run in others if (trio := distillation_of(runs, run))]
    return {run.id for trio in trios for run in trio.runs}


def _lines(sweep: Sweep, cells: tuple[Cell, ...], now: SweepStatus) -> list[str]:
    lines = []
    if now.current:
        lines.append(plain(f"Now: {place(now.current, cells)} · {run_progress.words(now.current)}"))
    elif now.active:
        waits = now.active[0].progress.get("phase", "") if now.active[0].status == RUNNING else "queued"
        lines.append(plain(f"Next: {place(now.active[0], cells)} · {waits}"))
    if now.active:
        left = "unknown until a similar run has finished" if now.seconds_left is None \
            else f"about {rough(now.seconds_left)}"
        lines.append(f"Time left: {left}. Other queued runs are not included.")
    state = measuring(sweep, cells[0].teacher) if cells else None
    if state and state.active:
        lines.append(f"Timing the explanations: {state.phase or state.state}")
    return lines
