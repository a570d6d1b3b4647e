"""Runs: all runs with their status and scores, the queue, and one run in detail."""

import zlib

import pandas as pd
import streamlit as st

from kd.jobs.queue import queue
from kd.latex import as_latex
from kd.store.runs import INTERRUPTED, RUNNING, STATUSES, Run
from pages.parts.runs import details
from pages.parts.shared import layout, run_list, run_progress
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import count, percent, plain
from pages.parts.shared.run_list import Entry
from pages.parts.shared.run_warnings import in_short, titles
from pages.parts.shared.theme import STATUS_WORDS

LONG = 8  # lines of the queue that are shown without scrolling
RUN, CLICKED, FOLDS = "runs_run", "runs_clicked", "runs_folds"
LINK = "runs_link"  # the run that this page last wrote into the address: another comes from a link or the back button
COLUMNS = {
    "Accuracy": st.column_config.NumberColumn("Accuracy", format="%.3f", help="On the test images."),
    "Macro-F1": st.column_config.NumberColumn("Macro-F1", format="%.3f",
                                              help="Mean of the classes' F1 scores on the test images."),
    "Warnings": st.column_config.TextColumn("Warnings", width="medium"),
    "Audit": st.column_config.TextColumn("Audit", width="medium", help="Whether scores on the run's data set can be "
                                         "believed. The data page says more."),
    "NLL": st.column_config.NumberColumn("NLL", format="%.3f", help="Cross-entropy of the test images with their "
                                         "labels, in nats; lower is better."),
    "ECE": st.column_config.NumberColumn("ECE", format="%.3f", help="Expected calibration error on the test images, "
                                         "0 to 1; lower is better."),
    # In millions, because "compact" writes a British reader's million as m.
    "Parameters": st.column_config.NumberColumn("Parameters (M)", format="%.3f"),
    "FLOPs": st.column_config.NumberColumn("FLOPs (M)", format="%.2f", help="For one image at the working size."),
    "Seconds": st.column_config.NumberColumn("Training time", format="%.0f s"),
    "Bytes": st.column_config.NumberColumn("On disk", format="bytes"),
    "Created": st.column_config.DatetimeColumn("Created", format="YYYY-MM-DD HH:mm"),
    "Run": st.column_config.TextColumn("Run", width="medium"),
    "Method": st.column_config.TextColumn("Method", width=126),  # as wide as the longest name there is
}


def main() -> None:
    """Draw the page."""
    layout.page("Runs")
    st.title("Runs", anchor=False)
    entries = run_list.entries(store())
    if not entries and not store().unreadable():
        empty()
        return
    unreadable(store().unreadable())
    interrupted(entries)
    waiting(entries)
    listed = without_folds(entries)
    chosen = filtered(listed)
    live = [entry.run.id for entry in entries if entry.active]
    st.fragment(table, run_every=layout.POLL if live else None)([entry.run.id for entry in chosen], live)
    selected(listed, entries)


def empty() -> None:
    """Nothing yet: one next step."""
    with st.container(border=True):
        st.markdown("**No runs yet.** Every training appears here, with its curves and scores. The quickest way to "
                    "have some is the demo on the home page.")
        st.page_link("dashboard.py", label="Go to the demo", icon=":material/play_arrow:")


def unreadable(found: list[Run]) -> None:
    """Folders whose settings cannot be read, which have no row below."""
    if not found:
        return
    with st.container(border=True, gap="xsmall", height=360 if len(found) > LONG else "content"):
        st.markdown(":material/broken_image: **Damaged runs without readable settings**")
        for run in found:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(plain(run.damage), width="stretch")
                if st.button("Delete", key=f"delete-{run.id}", type="tertiary", icon=":material/delete:"):
                    st.dialog("Delete this run?", icon=":material/delete:")(details.ask)(run)


def interrupted(entries: list[Entry]) -> None:
    """Runs that a stopped server interrupted, with buttons to resume them in the order of planning."""
    broken = sorted((entry for entry in entries if entry.status == INTERRUPTED), key=lambda entry: entry.created)
    if not broken:
        return
    one = len(broken) == 1
    with st.container(border=True):
        st.markdown(f":material/pause_circle: **{'One run was' if one else f'{len(broken)} runs were'} interrupted.** "
                    "Each goes on from its last full epoch and ends as it would have without the interruption.")
        st.caption(plain(" · ".join(f"{entry.title} on {run_list.data_name(entry.spec)}" for entry in broken[:6])))
        with usage_errors():
            if st.button("Resume" if one else f"Resume all {len(broken)}", type="primary", key="resume-all",
                         icon=":material/resume:"):
                for entry in broken:
                    queue(store().paths).resume(entry.run)
                st.rerun()


def waiting(entries: list[Entry]) -> None:
    """The queue in its order."""
    active = {entry.run.id: entry for entry in entries if entry.active}
    mine = [run.id for run in queue(store().paths).waiting if run.id in active]
    foreign = [run_id for run_id, entry in active.items() if run_id not in mine and entry.status != RUNNING]
    if not mine and not foreign:
        return
    # A sweep queues dozens.
    with st.container(border=True, gap="xsmall", height=360 if len(mine) + len(foreign) > LONG else "content"):
        st.markdown("**Queue**")
        for number, run_id in enumerate(mine, 1):
            with st.container(horizontal=True, vertical_alignment="center"):
                entry = active[run_id]
                name = f"{entry.title} on {run_list.data_name(entry.spec)}"
                st.markdown(f"{number}. {plain(name)}", width="content")
                if st.button("Cancel", key=f"cancel-waiting-{run_id}", type="tertiary", icon=":material/close:"):
                    queue(store().paths).cancel(entry.run)
                    st.rerun()
        for run_id in foreign:
            st.caption(f"{plain(active[run_id].title)}: queued by another program")


def without_folds(entries: list[Entry]) -> list[Entry]:
    """The runs without fold teachers, which are their teacher's, unless somebody asks for them or a link names one."""
    folds = {entry.run.id for entry in entries if entry.spec.fold}
    if not folds:
        return entries
    linked = st.query_params.get("run") in folds
    shown = st.toggle(f"Show {len(folds)} fold teachers", value=linked, key=FOLDS,
                      help="Networks with a teacher's recipe, each trained without a part of the images, that "
                           "out-of-fold soft targets come from. They are deleted with their teacher.")
    return entries if shown or linked else [entry for entry in entries if entry.run.id not in folds]


def filtered(entries: list[Entry]) -> list[Entry]:
    """The runs that match the filters; the filters are part of the address, so a view can be shared."""
    with st.container(horizontal=True, vertical_alignment="top"):
        present = [status for status in STATUSES if any(entry.status == status for entry in entries)]
        wanted = st.pills("Status", present, selection_mode="multi", key="status", bind="query-params")
        sets = sorted({run_list.data_name(entry.spec) for entry in entries})
        data = st.selectbox("Data set", sets, index=None, placeholder="All", key="set", bind="query-params", width=176)
        text = st.text_input("Search", key="find", bind="query-params", width=176, icon=":material/search:",
                             placeholder="model, method, run …")
    return [entry for entry in entries
            if (not wanted or entry.status in wanted) and (not data or run_list.data_name(entry.spec) == data)
            and all(word in _words(entry) for word in (text or "").lower().split())]


def _words(entry: Entry) -> str:
    spec = entry.spec
    return f"{entry.run.id} {entry.title} {spec.model} {spec.base} {spec.method} {spec.data} {entry.status}".lower()


def table(ids: list[str], live: list[str]) -> None:
    """The runs of these ids. A click on a row opens it below; redrawn while some of `live` are not done."""
    if st.session_state.pop(CLICKED, False):
        st.rerun()  # the run is drawn outside this fragment
    entries = run_list.entries(store())
    if [entry.run.id for entry in entries if entry.active and entry.run.id in live] != live:
        st.rerun()
    shown = [entry for entry in entries if entry.run.id in ids]
    if not shown:
        st.info("No run matches these filters.", icon=":material/filter_alt_off:")
        return
    frame = as_frame(shown)
    rows = [entry.run.id for entry in shown]
    key = f"table-{zlib.crc32(' '.join(rows).encode())}"  # other rows: a mark on the third would name another run
    st.dataframe(frame.assign(**{name: pd.to_numeric(frame[name]) / 1e6 for name in ("Parameters", "FLOPs")}),
                 hide_index=True, column_config=COLUMNS, key=key, placeholder="–",
                 on_select=lambda: _clicked(key, rows),
                 selection_mode="single-row", height=min(420, 38 + 35 * len(frame)), alt="All runs that match")
    with st.container(horizontal=True):
        st.download_button("Download as CSV", lambda: frame.to_csv(index=False), "kd-lens-runs.csv", "text/csv",
                           on_click="ignore", icon=":material/download:", type="tertiary")
        st.download_button("Download as LaTeX", lambda: as_latex(_printed(entries, ids), "Runs."), "kd-lens-runs.tex",
                           "text/x-tex", on_click="ignore", icon=":material/table:", type="tertiary")


def _printed(entries: list[Entry], ids: list[str]) -> list[dict[str, str]]:
    """The main columns of these runs in words."""
    shown = [entry for entry in entries if entry.run.id in ids]
    return [{"Role": _role(entry), "Data set": run_list.data_name(entry.spec), "Model": entry.spec.model_label,
             "Method": entry.spec.method_label, "Seed": str(entry.spec.seed),
             "Accuracy": percent(entry.summary.get("accuracy")), "Macro-F1": percent(entry.summary.get("macro_f1")),
             "Parameters": count(entry.summary.get("parameters")), "FLOPs": count(entry.summary.get("flops"))}
            for entry in shown]


def _clicked(key: str, ids: list[str]) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    if rows and rows[0] < len(ids):
        st.session_state[RUN] = ids[rows[0]]
        st.session_state[CLICKED] = True


def as_frame(entries: list[Entry]) -> pd.DataFrame:
    """One row a run; numbers stay numbers, so that columns sort."""
    return pd.DataFrame([_row(entry) for entry in entries])


def _row(entry: Entry) -> dict[str, object]:
    spec, summary, run = entry.spec, entry.summary, entry.run
    tested = run.evaluation or {} if summary else {}
    now = f" {run_progress.share(run) * 100:.0f} %" if entry.status == RUNNING else ""
    return {"Status": STATUS_WORDS[entry.status] + now, "Role": _role(entry), "Data set": run_list.data_name(spec),
            "Model": spec.model_label, "Method": spec.method_label, "Epochs": f"{len(run.epochs())}/{spec.epochs}",
            "Accuracy": summary.get("accuracy"), "Macro-F1": summary.get("macro_f1"),
            "NLL": tested.get("loss"), "ECE": tested.get("ece"), "Warnings": titles(run),
            "Audit": in_short(run) if summary else "", "Parameters": summary.get("parameters"),
            "FLOPs": summary.get("flops"), "Seconds": summary.get("seconds"),
            "Bytes": run.size(), "Created": entry.created, "Run": run.id}


def _role(entry: Entry) -> str:
    return f"fold teacher {entry.spec.fold} of {entry.spec.folds}" if entry.spec.fold else entry.role


def selected(listed: list[Entry], entries: list[Entry]) -> None:
    """The run named in the address or chosen here from those that are listed, in full. entries: all runs."""
    by_id = {entry.run.id: entry for entry in listed}
    _follow_link(set(by_id))
    picked = st.selectbox("Run", list(by_id), index=None, key=RUN, placeholder="Choose a run here, or a row above",
                          format_func=lambda run_id: _name(by_id[run_id]))
    if picked and st.query_params.get("run") != picked:
        st.query_params["run"] = picked
    elif not picked and "run" in st.query_params and st.query_params["run"] in by_id:
        del st.query_params["run"]
    st.session_state[LINK] = picked
    if picked:
        with usage_errors():
            details.show(by_id[picked], entries)


def _follow_link(known: set[str]) -> None:
    """Take the run from the address, unless this page wrote it itself."""
    requested = st.query_params.get("run")
    if requested and requested not in known:
        st.warning(f"There is no run {plain(repr(requested))}: it may have been deleted.", icon=":material/search_off:")
    elif requested and requested != st.session_state.get(LINK):
        st.session_state[RUN] = requested
    if st.session_state.get(RUN) not in known:
        st.session_state[RUN] = None  # deleted since it was chosen


def _name(entry: Entry) -> str:
    return f"{entry.title} · {run_list.data_name(entry.spec)} · {entry.spec.method_label} · {entry.run.id[-10:]}"


main()
