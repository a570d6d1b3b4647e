"""Whether the data set can be believed: its audit's verdict, findings and yardsticks, or the button that starts it."""

from pathlib import Path

import streamlit as st

from kd.audit import report
from kd.audit.findings import FAULT, NOTE, WARNING
from kd.audit.report import CARE, NO, YES, AuditReport, Measured
from kd.datasets import Dataset
from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.paths import Paths
from kd.store.files import modified
from kd.store.runs import CANCELLED, FAILED, INTERRUPTED, QUEUED
from kd.store.task_folder import TaskFolder
from pages.parts.data.audit_images import images_of
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import percent, plain, unbroken

TASK, POLL = "audit", 1.0
BADGES = {FAULT: ("red", ":material/error:"), WARNING: ("orange", ":material/warning:"),
          NOTE: ("gray", ":material/info:")}
BOXES = {NO: (st.error, ":material/gpp_bad:"), CARE: (st.warning, ":material/gpp_maybe:"),
         YES: (st.success, ":material/verified_user:")}


def audit_section(data: Dataset) -> AuditReport | None:
    """Draw the audit of the open data set; its report, where there is one."""
    owner = report.owner(data.fingerprint, f"the data set {data.name}", store().paths)
    state = tasks.status(owner, TASK)
    if state.active:
        st.fragment(_computing, run_every=POLL)(owner)
        return None
    found = kept(data.fingerprint)
    if state.state == FAILED:
        st.error(plain(state.reason or "The audit failed; no reason was recorded."), icon=":material/error:")
    if found is None:
        stopped = f" The last one was {state.state}." if state.state in (CANCELLED, INTERRUPTED) else ""
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Can scores on this data set be believed?** It has not been audited.{stopped}")
            _start(owner, data, "Audit", "primary")
        return None
    show(found, data, owner)
    return found


def kept(fingerprint: str) -> AuditReport | None:
    """The stored report on a set of this content."""
    paths = store().paths
    return _kept(fingerprint, paths.root, modified(report.folder(fingerprint, paths) / report.FILE))


@st.cache_data(max_entries=16, show_spinner=False)
def _kept(fingerprint: str, root: Path, changed: int) -> AuditReport | None:
    return report.load(fingerprint, Paths(root))


def _start(owner: TaskFolder, data: Dataset, label: str, kind: str) -> None:
    if st.button(label, type="primary" if kind == "primary" else "tertiary", icon=":material/policy:", key="audit_start",
                 help="Looks for copies, patients in two splits, shortcuts, doubtful labels and burnt-in marks, and "
                      "computes what simple rules reach. In the background, after queued trainings; kept with the set."):
        with usage_errors():
            queue(store().paths).submit_task(owner, TASK, {"data": data.reference})
            st.rerun()


def _computing(owner: TaskFolder) -> None:
    state = tasks.status(owner, TASK)
    if not state.active:
        st.rerun()
    with st.container(border=True):
        st.progress(min(1.0, max(0.0, state.share)), text="**Audit** · " + (
            state.phase or ("queued" if state.state == QUEUED else "starting")))
        st.button("Cancel", icon=":material/stop_circle:", on_click=_cancel, args=(owner,), key="audit_cancel")


def _cancel(owner: TaskFolder) -> None:
    queue(store().paths).cancel(tasks.task(owner, TASK))


def show(found: AuditReport, data: Dataset, owner: TaskFolder) -> None:
    """The verdict; the findings, the yardsticks and the images they are about in a panel to open."""
    box, icon = BOXES[found.believable]
    box(plain(found.verdict).replace(" %", "\u00a0%"), icon=icon)
    serious = sum(one.level != NOTE for one in found.findings)
    with st.expander(f"Audit: {len(found.findings)} findings, {serious} of them serious; what simple rules reach"):
        for one in found.findings:
            colour, sign = BADGES[one.level]
            st.markdown(f":{colour}-badge[{sign} {one.level}] {plain(one.text)}")
        if not found.findings:
            st.markdown("Nothing was found.")
        st.table([row(one) for one in found.yardsticks], border="horizontal", hide_index=True,
                 alt="Test accuracy and balanced accuracy of simple rules")
        st.caption("What simple rules reach on the test images, with 95 % intervals; balanced: mean recall of the classes. "
                   f"A model must beat the best rule on the split as it is: {found.to_beat.title}.")
        images_of(found, data)
        _start(owner, data, "Audit again", "tertiary")


def row(one: Measured) -> dict[str, str]:
    """A yardstick as a line of the table."""
    low, high = one.accuracy["low"], one.accuracy["high"]
    interval = "" if low is None or high is None else f" ({100 * low:.1f}–{100 * high:.1f})"
    return {"Rule": one.title[:1].upper() + one.title[1:], "Accuracy": unbroken(percent(one.accuracy["mean"]) + interval),
            "Balanced": unbroken(percent(one.balanced["mean"]))}
