"""The report of a distillation: made on the queue, then offered as a file."""

import time

import streamlit as st

from kd.reporting.files import TASK, report_made, report_path
from kd.store.runs import Run
from pages.parts.shared.task_progress import start_task, task_progress


def report_buttons(student: Run) -> None:
    """A button that makes the report of a finished student, and one that downloads it."""
    if task_progress(student, TASK, "Report"):
        return
    made = report_made(student)
    with st.container(horizontal=True, vertical_alignment="center"):
        if made:
            st.download_button("Report (HTML)", lambda: report_path(student).read_bytes(),
                               f"report-{student.id}.html", "text/html", on_click="ignore", key="report_download",
                               icon=":material/description:")
        if st.button("Make it anew" if made else "Make a report", key="report_start", icon=":material/description:",
                     type="tertiary" if made else "secondary",
                     help="One file to read, print and pass on: question, data, scores, cost, maps, failures, settings "
                          "and how to reproduce it. It contains test images."):
            start_task(student, TASK, {})
        if made:
            st.caption(f"made {time.strftime('%d %B %Y, %H:%M', time.localtime(made))}", width="content")
