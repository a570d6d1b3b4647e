"""Links between pages. The query parameters here are the ones each page reads, so that every link also works cold."""

import streamlit as st

from kd.paths import PROJECT


def exists(script: str) -> bool:
    """Whether this page is part of the installation."""
    return (PROJECT / script).exists()


def data(reference: str = "", label: str = "Browse the data", icon: str = ":material/imagesmode:") -> None:
    """The data page with this set open (`?data=`)."""
    _link("pages/data.py", label, icon, data=reference)


def distil(reference: str = "", label: str = "Distil", icon: str = ":material/science:") -> None:
    """The form with this data set chosen (`?data=`)."""
    _link("pages/distill.py", label, icon, data=reference)


def watch(run: str, label: str = "Watch", icon: str = ":material/monitoring:") -> None:
    """The distil page following this run (`?run=`)."""
    _link("pages/distill.py", label, icon, run=run)


def sweep(sweep: str = "", label: str = "Sweep", icon: str = ":material/grid_on:") -> None:
    """The sweep page with this sweep open (`?sweep=`)."""
    _link("pages/sweep.py", label, icon, sweep=sweep)


def run(run: str = "", label: str = "Runs", icon: str = ":material/checklist:") -> None:
    """The runs page with this run open (`?run=`)."""
    _link("pages/runs.py", label, icon, run=run)


def compare(student: str = "", label: str = "Compare", icon: str = ":material/compare:", **view: str) -> None:
    """The comparison of this student with its teacher (`?run=`). view: what else its address names (`image`, ...)."""
    _link("pages/compare.py", label, icon, run=student, **view)


def evaluate(student: str = "", label: str = "Evaluate", icon: str = ":material/analytics:") -> None:
    """This student, its teacher and control over the test set (`?run=`)."""
    _link("pages/evaluate.py", label, icon, run=student)


def _link(script: str, label: str, icon: str, **parameters: str) -> None:
    if exists(script):
        st.page_link(script, label=label, icon=icon,
                     query_params={name: value for name, value in parameters.items() if value})


def valid(key: str, offered: tuple[object, ...], otherwise: object) -> None:
    """Removes a value that a widget does not offer, before it is drawn: Streamlit would raise an error."""
    if st.session_state.get(key) not in offered:
        st.session_state[key] = otherwise
