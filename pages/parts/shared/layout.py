"""Layout common to all pages: configuration, sidebar, and the banner of running trainings."""

from functools import lru_cache

import streamlit as st
from PIL import Image, ImageDraw

from kd.jobs.queue import queue
from kd.roles import COLOURS, STUDENT, TEACHER
from pages.parts.shared import links, run_list, run_progress, warmup
from pages.parts.shared.context import store
from pages.parts.shared.format import plain

# (script, label, icon) in the order of use.
PAGES = (
    ("dashboard.py", "Home", ":material/home:"),
    ("pages/data.py", "Data", ":material/imagesmode:"),
    ("pages/distill.py", "Distil", ":material/science:"),
    ("pages/sweep.py", "Sweep", ":material/grid_on:"),
    ("pages/runs.py", "Runs", ":material/checklist:"),
    ("pages/compare.py", "Compare", ":material/compare:"),
    ("pages/evaluate.py", "Evaluate", ":material/analytics:"),
)
POLL = 4.0  # seconds between two polls of the run folders: every poll of every viewer slows the training down


def page(title: str) -> None:
    """Configure the page and draw the sidebar; the first Streamlit call of every page.

    Also makes this process's queue, so that every page shows what is queued in it, and starts the imports that
    later pages need.
    """
    st.set_page_config(page_title=f"KD Lens · {title}", page_icon=_favicon(), layout="wide")
    queue(store().paths)
    warmup.start()
    with st.sidebar:
        st.markdown("### KD Lens")
        with st.container(gap="xxsmall"):
            for script, label, symbol in PAGES:
                if links.exists(script):
                    st.page_link(script, label=label, icon=symbol, width="stretch")
        banner()
        st.caption(":material/health_and_safety: Not for clinical use")


@lru_cache
def _favicon() -> Image.Image:
    """A large ring and a small disc. Drawn here, because the browser would fetch a named icon from another site."""
    image = Image.new("RGBA", (64, 64))
    pen = ImageDraw.Draw(image)
    pen.ellipse((4, 4, 52, 52), outline=COLOURS[TEACHER], width=9)
    pen.ellipse((34, 34, 62, 62), fill=COLOURS[STUDENT])
    return image


def banner() -> None:
    """The run in training, updated while there is one; draws nothing when the machine is idle."""
    if run_list.active(store()):
        st.fragment(_banner, run_every=POLL)()


def _banner() -> None:
    busy = run_list.active(store())
    if not busy:
        st.rerun()  # the page below still shows it as running
    first = busy[0]
    with st.container(border=True, gap="xsmall"):
        st.progress(run_progress.share(first.run), text=f"**{plain(first.title)}**  \n{run_progress.words(first.run)}")
        if len(busy) > 1:
            st.caption(f"{len(busy) - 1} more queued")
        links.watch(first.run.id)
