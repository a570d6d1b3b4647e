"""Home: the latest runs, and what to do first."""

import streamlit as st

from kd.experiments import demo
from kd.jobs.queue import queue
from kd.store.runs import INTERRUPTED
from pages.parts.home import cards
from pages.parts.home.cards import Trial
from pages.parts.shared import layout, links, run_list
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.run_list import Entry

CARDS = 6
LIVE = 4  # a sweep queues dozens


def main() -> None:
    """The page: the demo when there are no runs, else running trainings and the latest results."""
    layout.page("Home")
    entries = run_list.entries(store())
    trials = cards.trials(entries, store())
    st.title("KD Lens", anchor=False)
    st.markdown("Distil a large image classifier into a small one, and see whether the small one still bases its "
                "decision on the same evidence.")
    if not entries and not store().unreadable():
        first_steps()
    else:
        toolbar()
        attention(entries)
        run_list.show_damaged(entries, store())
        running(entries)
        results([trial for trial in trials if not trial.active])
    how_it_works()


def first_steps() -> None:
    """The empty state: the demo, or the user's own images."""
    with st.grid(2, min_column_width=320):
        with st.container(border=True, height="stretch"):
            st.subheader("See it work", anchor=False)
            st.markdown("Three short trainings on drawn brain scans: a teacher, a five-layer student distilled from "
                        "it, and the same student without a teacher (the control). It takes about a minute and "
                        "needs no data.")
            demo_button("primary")
        with st.container(border=True, height="stretch"):
            st.subheader("Use your own images", anchor=False)
            st.markdown("A folder or a zip with one folder per class, or a MedMNIST file. Inspect it first, then "
                        "choose a teacher and a student.")
            with st.container(horizontal=True):
                links.data(label="Open a data set")
                links.distil(label="Set up a distillation")


def toolbar() -> None:
    """The next steps when there are runs already."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if links.exists("pages/distill.py") and st.button("New distillation", type="primary", icon=":material/add:"):
            st.switch_page("pages/distill.py")
        links.data(label="Browse data")
        links.run(label="All runs")
        demo_button("tertiary")


def demo_button(kind: str) -> None:
    """Queue the demo's three runs; those that are there already are not repeated."""
    if st.button("Start the demo", type=kind, icon=":material/play_arrow:"):  # type: ignore[arg-type]
        with usage_errors(), st.spinner("Preparing the demo …"):
            added = queue(store().paths).submit(demo.plan(store()).runs)
            if not added:
                st.toast("The demo has been started already: it is below.", icon=":material/info:")
                return
            st.rerun()


def attention(entries: list[Entry]) -> None:
    """Runs that a stopped server left behind."""
    broken = [entry for entry in entries if entry.status == INTERRUPTED]
    if not broken:
        return
    one = len(broken) == 1
    row = st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
    with row:
        st.markdown(f":material/pause_circle: **{'One run was' if one else f'{len(broken)} runs were'} interrupted** "
                    f"and can go on where {'it' if one else 'they'} stopped.", width="content")
        links.run(broken[0].run.id if one else "", "Resume", ":material/resume:")


def running(entries: list[Entry]) -> None:
    """Running trainings, polled."""
    ids = [entry.run.id for entry in entries if entry.active]
    if ids:
        st.subheader("Training", anchor=False)
        st.fragment(_running, run_every=layout.POLL)(ids)


def _running(ids: list[str]) -> None:
    entries = run_list.entries(store())
    if [entry.run.id for entry in entries if entry.active and entry.run.id in ids] != ids:
        st.rerun()  # one has ended: the cards below change too
    shown: set[str] = set()
    trials = [trial for trial in cards.trials(entries, store()) if trial.active]
    for trial in trials:
        shown |= {entry.run.id for entry in trial.entries}
    trials += [Trial({entry.role: (entry,)}) for entry in entries if entry.active and entry.run.id not in shown]
    for trial in sorted(trials, key=lambda trial: not trial.running)[:LIVE]:
        with usage_errors():
            cards.live(trial)
    if len(trials) > LIVE:
        links.run(label=f"{len(trials) - LIVE} more queued")


def results(trials: list[Trial]) -> None:
    """The latest distillations as cards."""
    if not trials:
        return
    st.subheader("Latest distillations", anchor=False)
    newest = next((trial for trial in trials if trial.finished), None)
    grid = st.grid(2, min_column_width=370)
    for trial in trials[:CARDS]:
        with grid, st.container(border=True, height="stretch"), usage_errors():
            cards.result(trial, first=trial is newest)
    if len(trials) > CARDS:
        links.run(label=f"All {len(trials)} distillations")


def how_it_works() -> None:
    """The method in three sentences, with its papers."""
    st.subheader("How it works", anchor=False)
    with st.grid(3, min_column_width=240):
        st.markdown("**1 · Train a teacher**  \nA large network, the *teacher*, learns to classify the images.")
        st.markdown("**2 · Distil**  \nA *student* of a few layers learns from the labels and from the teacher's "
                    "softened outputs. A *control*, the same student without a teacher, measures the gain from "
                    "distillation.")
        st.markdown("**3 · Compare**  \nThe teacher's Grad-CAM heat map beside the student's feature maps, stage by "
                    "stage, for the same image: do they rely on the same region?")
    # Not a caption: that is paler, and links in it would be too pale to read.
    st.markdown(":small[After [KD-FMV](https://arxiv.org/abs/2502.15959) (Jiang et al., AAAI-25) and "
                "[MED-TEX](https://arxiv.org/abs/2008.02593) (Nguyen-Duc et al., ISBI 2022).]")


main()
