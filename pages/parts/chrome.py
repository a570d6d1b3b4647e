"""What every page wears: configuration, sidebar, and the banner of whatever is in training."""

import streamlit as st

from kd.jobs import queue
from kd.places import PROJECT
from kd.runs import RUNNING, Run, Store
from pages.parts import progress, warmup
from pages.parts.common import store

# (script, label, icon) in the order in which a person needs them.
PAGES = (
    ("dashboard.py", "Home", ":material/home:"),
    ("pages/data.py", "Data", ":material/imagesmode:"),
    ("pages/distill.py", "Distil", ":material/science:"),
    ("pages/runs.py", "Runs", ":material/checklist:"),
    ("pages/compare.py", "Compare", ":material/compare:"),
)
POLL = 2.0  # seconds between two looks at the run folders while something is in training


def page(title: str, icon: str) -> None:
    """Configure the page and draw the sidebar; the first Streamlit call of every page.

    `icon` is an emoji or `:material/name:`. Also makes this process's queue, so that a reader of any page can see
    what waits in it, and starts the imports that later pages need.
    """
    st.set_page_config(page_title=f"KD Lens · {title}", page_icon=icon, layout="wide")
    places = store().places
    queue(places)
    warmup.start()
    with st.sidebar:
        st.markdown("### KD Lens")
        for script, label, symbol in PAGES:
            if exists(script):
                st.page_link(script, label=label, icon=symbol, width="stretch")
        banner()
        st.caption(":material/health_and_safety: Not for clinical use")


def exists(script: str) -> bool:
    """Whether this page is part of the installation."""
    return (PROJECT / script).exists()


def banner() -> None:
    """What is in training now, renewed while something is; draws nothing when the machine is idle."""
    busy = active(store())
    if busy:
        st.fragment(_banner, run_every=POLL)()


def active(runs: Store) -> list[Run]:
    """Runs queued or in training in any process, the one in training first."""
    return sorted(progress.active(runs), key=lambda run: run.status != RUNNING)


def _banner() -> None:
    busy = active(store())
    if not busy:
        st.rerun()  # the page below still shows it as running
    run = busy[0]
    with st.container(border=True, gap="xsmall"):
        st.progress(progress.share(run), text=f"**{progress.label(run)}** · {progress.words(run)}")
        if len(busy) > 1:
            st.caption(f"{len(busy) - 1} more waiting")
        if exists("pages/distill.py"):
            st.page_link("pages/distill.py", label="Watch", icon=":material/monitoring:", query_params={"run": run.id})
