"""Sweep: a distillation for every combination of settings under one teacher, and their results."""

import streamlit as st

from kd.experiments.data_efficiency import DATA_EFFICIENCY
from kd.experiments.sweep import Sweep, find, planned_cells, sweeps
from kd.experiments.sweep.progress import sweep_status
from kd.store.runs import Store
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import plain
from pages.parts.shared.layout import page
from pages.parts.sweep import progress
from pages.parts.sweep.result import result

NEW, FOLLOW = ("New sweep", "Progress and result")
FREE = "free"
KINDS = {FREE: "Any settings", DATA_EFFICIENCY: "Data efficiency"}
CHOSEN, VIEW, KIND = "sweep_id", "sweep_view", "sweep_kind"
LINK = "sweep_link"  # the query string as this page last left it: any other comes from a link or the back button


def main() -> None:
    """The whole page."""
    page("Sweep")
    st.title("Sweep", anchor=False)
    known = sweeps(store())
    with usage_errors():
        _follow_link(known)
    if not known:
        st.markdown("One student per combination of settings, all under one teacher and each beside its control: "
                    "KD-FMV's table of α, temperature and depth, with seeds. Set it up here; nothing is trained twice.")
        _new()
        return
    st.session_state.setdefault(VIEW, FOLLOW)
    view = st.segmented_control("View", (NEW, FOLLOW), key=VIEW, required=True, persist_state="session",
                                label_visibility="collapsed")
    if view == NEW:
        _write_link("")
        _new()
    else:
        with usage_errors():
            _follow(known)


def _follow_link(known: list[Sweep]) -> None:
    """Take sweep, kind and data set from the address, unless this page wrote it itself.

    Raises UsageError for an unknown sweep.
    """
    link = st.query_params.to_dict()
    if link == st.session_state.get(LINK):
        return
    st.session_state[LINK] = link
    if "data" in link:
        st.session_state["distil_data"] = link["data"]
        st.session_state[VIEW] = NEW
    if link.get("kind") in KINDS:
        st.session_state[KIND] = link["kind"]
        st.session_state[VIEW] = NEW
    if "sweep" in link:
        st.session_state[VIEW] = FOLLOW
        st.session_state[CHOSEN] = find(store(), link["sweep"]).id


def _write_link(sweep_id: str) -> None:
    """The address names what is shown, so that a reload or another browser shows the same."""
    link = {"sweep": sweep_id} if sweep_id else {}
    st.session_state[LINK] = link
    if st.query_params.to_dict() != link:
        st.query_params.from_dict(link)


def _follow(known: list[Sweep]) -> None:
    """The sweep chosen, else the one under way, else the newest."""
    by_id = {sweep.id: sweep for sweep in known}
    if st.session_state.get(CHOSEN) not in by_id:
        st.session_state[CHOSEN] = _latest(known, store()).id
    if len(known) > 1:
        st.selectbox("Sweep", list(by_id), key=CHOSEN, persist_state="session", filter_mode="contains",
                     format_func=lambda sweep_id: _label(by_id[sweep_id]))
    sweep = by_id[st.session_state[CHOSEN]]
    _write_link(sweep.id)
    if len(known) == 1:
        st.subheader(plain(progress.title(sweep, planned_cells(sweep, store()))), anchor=False)
    now = progress.live(sweep)
    result(sweep, now)


def _latest(known: list[Sweep], runs: Store) -> Sweep:
    return next((one for one in known if sweep_status(planned_cells(one, runs), runs).active), known[0])


def _label(sweep: Sweep) -> str:
    return f"{progress.title(sweep, planned_cells(sweep, store()))} · {sweep.id[-4:]}"


def _new() -> None:
    """Form on the left; preview and start button on the right."""
    with st.skeleton(height=500):
        # torch and timm: seconds, the first time
        from pages.parts.sweep import data_efficiency_form, form, preview
    kind = st.segmented_control("Kind", list(KINDS), default=FREE, required=True, key=KIND, persist_state="session",
                                format_func=KINDS.__getitem__, label_visibility="collapsed")
    left, right = st.columns(2, gap="medium")
    with left, usage_errors():
        sweep = data_efficiency_form.form() if kind == DATA_EFFICIENCY else form.form()
        if sweep is None:
            return
        with right, usage_errors():
            preview.combinations(sweep)
            above = st.container()
            if st.button("Start the sweep", type="primary", icon=":material/grid_on:", width="stretch"):
                _start(sweep)
            with above:  # last, because it takes seconds for models that have not been timed yet
                preview.estimated(sweep)


def _start(sweep: Sweep) -> None:
    """Plan all runs, queue what has not finished, and follow them."""
    with st.spinner("Planning the runs"):
        progress.start(sweep)
    st.query_params.from_dict({"sweep": sweep.id})  # the next script run follows this link
    st.rerun()


main()
