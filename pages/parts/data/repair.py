"""The form that repairs the open data set into a new one, and its progress."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import streamlit as st

from kd import datasets
from kd.audit.repair import PATIENTS, SPLITS, Repair
from kd.audit.report import AuditReport
from kd.datasets import Dataset
from kd.datasets.named_sets import require_free_name
from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.store.runs import CANCELLED, FAILED, FINISHED, INTERRUPTED, QUEUED
from kd.store.task_folder import TaskFolder
from pages.parts.shared import links
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import plain

TASK, POLL = "repair", 1.0
KEEP = "keep the parts"
SHARED = {"patients-train-test", "patients-val-test"}
LABELS = {KEEP: KEEP, "patients": "anew, by patient", "copies": "anew, by cluster of copies"}


def repair_section(data: Dataset, found: AuditReport) -> None:
    """Draw the form, the progress of a repair of this set, or its result. Nothing for a drawn set."""
    if datasets.is_drawn(data.reference):
        return
    owner = TaskFolder(store().paths.cache / "repairs" / data.fingerprint, f"the data set {data.name}")
    state = tasks.status(owner, TASK)
    if state.active:
        st.fragment(_writing, run_every=POLL)(owner)
        return
    place = store().paths.data / str(state.args.get("name", ""))
    if state.state == FINISHED and state.args and place.is_dir():
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Repaired: {plain(place.name)}** is a data set of its own now; this one stays as it is.")
            links.data(str(place), "Open it")
    elif state.state == FAILED:
        st.error(plain(state.reason), icon=":material/error:")
    with st.expander("Repair: write a new data set without what was found"):
        if state.state in (CANCELLED, INTERRUPTED):
            st.caption(f"The last repair was {state.state}. No new set was written: write it again.")
        _form(data, found, owner)


def _form(data: Dataset, found: AuditReport, owner: TaskFolder) -> None:
    keys = {one.key for one in found.findings}
    known = "patients-unknown" not in keys
    with st.form("repair", border=False):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.text_input("Name of the new set", f"{data.name}-repaired", key="repair_name", width=260)
            ways = [KEEP, *(one for one in SPLITS if known or one != PATIENTS)]
            split = st.selectbox("Split", ways, ways.index(PATIENTS) if keys & SHARED else 0,
                                 format_func=LABELS.__getitem__, key="repair_split", width=220,
                                 help="Anew: 70 % train, 10 % val, 20 % test per class; copies, and patients where they "
                                      "are known, stay in one part.")
        drop = st.checkbox("Keep one image of each cluster of copies", bool(keys & {"copies-test", "copies-val"}),
                           key="repair_drop", help="The one in the test first; none where their labels differ.")
        out = st.multiselect("Images to leave out", _offered(found), key="repair_exclude",
                             accept_new_options=True, help="To choose from: images that the audit names, flat, nearly "
                             "black or white, labels in doubt, marks. Any other by its path in the set, or by its file "
                             "name where only one image has it.")
        st.caption("Classes: another name, or the same name for two that are to be one.")
        with st.container(horizontal=True):
            new = {old: st.text_input(plain(old), old, key=f"repair_class_{number}", width=200)
                   for number, old in enumerate(data.classes)}
        pressed = st.form_submit_button("Write the repaired set", type="primary", icon=":material/healing:")
    if pressed:
        with usage_errors():
            _submit(owner, data, name.strip(), Repair(tuple(out), drop, _changed(new), "" if split == KEEP else split))


def _offered(found: AuditReport) -> list[str]:
    """Names of images that somebody may want to leave out."""
    listed = [name for one in found.findings if one.key in ("flat", "extreme", "contradictions", "labels", "marks")
              for name in one.images]
    return list(dict.fromkeys(listed))


def _changed(new: Mapping[str, str]) -> dict[str, str]:
    return {old: name for old, name in new.items() if name.strip() != old}


def _submit(owner: TaskFolder, data: Dataset, name: str, wanted: Repair) -> None:
    require_free_name(name, store().paths)
    queue(store().paths).submit_task(owner, TASK, {"data": data.reference, "name": name, **asdict(wanted)})
    st.rerun()


def _writing(owner: TaskFolder) -> None:
    state = tasks.status(owner, TASK)
    if not state.active:
        st.rerun()
    with st.container(border=True):
        st.progress(min(1.0, max(0.0, state.share)), text="**Repair** · " + (
            state.phase or ("queued" if state.state == QUEUED else "starting")))
        st.button("Cancel", icon=":material/stop_circle:", on_click=_cancel, args=(owner,), key="repair_cancel")


def _cancel(owner: TaskFolder) -> None:
    queue(store().paths).cancel(tasks.task(owner, TASK))


def history_lines(steps: list[dict], place: Path) -> list[str]:
    """What was done to a set that the program wrote, a line a step."""
    return [f"**{str(one.get('kind', '')).capitalize()}** of {plain(str(one.get('source', place.name)))}, "
            f"{one.get('at', '')}: {plain(' '.join(map(str, one.get('done', one.get('notes', [])))))}" for one in steps]
