"""Evaluate: predictions and explanations of teacher, control and student over the whole test set."""

import streamlit as st

from kd.evaluation.report import MetricRow
from kd.evaluation.run_warnings import warnings_by_role
from kd.roles import CONTROL, EIGHT_BIT, STUDENT, TEACHER
from kd.store.eight_bit import EightBit, eight_bit_of, with_forms
from kd.store.groups import control_of
from kd.store.runs import Run
from pages.parts.evaluate.cases import gallery
from pages.parts.evaluate.scores import Scores, latency, scored, scores
from pages.parts.evaluate.tables import download
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import plain
from pages.parts.shared.layout import page
from pages.parts.shared.report import report_buttons
from pages.parts.shared.run_list import data_name, ending_of
from pages.parts.shared.run_warnings import data_verdict, score, show_warnings

RUN = "evaluate_run"
LINK = "evaluate_link"  # the run that this page last wrote into the address: another comes from a link

page("Evaluate")


def main() -> None:
    """The whole page."""
    st.title("Evaluate", anchor=False)
    students = with_forms([run for run in store() if run.spec.teacher and run.spec.teacher in store() and run.summary])
    if not students:
        _nothing_yet()
        return
    student = _student(students)
    cast = _cast(student)
    found = scored(cast)
    missing = [cast[role] for role in (TEACHER, STUDENT) if role not in found]
    if missing:
        st.info(f"The test predictions of {missing[0].id} are missing from its folder, so there is nothing to show. "
                f"Compute them again: `python -m kd evaluate {missing[0].id}`.", icon=":material/search_off:")
        return
    show_warnings(warnings_by_role({role: [run] for role, run in cast.items()}))
    data_verdict(student)
    rows = scores(found, latency(store(), student))
    rows += _further(student, found)
    download(rows, found, f"evaluation-{student.id}")
    with usage_errors():
        report_buttons(student.source if isinstance(student, EightBit) else student)
    st.caption("Not for clinical use.")


def _nothing_yet() -> None:
    with st.container(border=True):
        st.markdown("**No finished student yet.** Accuracy, calibration, confusions and the quality of the "
                    "explanations appear here, for teacher, control and student side by side, once a student has been "
                    "distilled.")
        st.page_link("pages/distill.py", label="Distil a student", icon=":material/science:")


def _student(students: list[Run]) -> Run:
    """The student chosen, which the address names."""
    by_id = {run.id: run for run in students}
    requested = st.query_params.get("run", "")
    if requested and requested != st.session_state.get(LINK):
        found = requested if requested in by_id else next((run.id for run in students
                                                           if requested in _relatives(run)), "")
        if not found:
            st.warning(f"There is no finished student {plain(repr(requested))}; the newest is shown.",
                       icon=":material/search_off:")
        st.session_state[RUN] = found or students[0].id
    if st.session_state.get(RUN) not in by_id:
        st.session_state[RUN] = students[0].id
    chosen = st.selectbox("Student", list(by_id), format_func=lambda run_id: _label(by_id[run_id]), key=RUN,
                          persist_state="session", filter_mode="contains")
    st.session_state[LINK] = chosen
    if st.query_params.get("run") != chosen:
        st.query_params["run"] = chosen
    return by_id[chosen]


def _relatives(student: Run) -> tuple[str, ...]:
    """A link to a teacher or a control opens its newest student."""
    control = control_of(store(), student)
    return (student.spec.teacher, control.id if control else "")


def _label(run: Run) -> str:
    spec = run.spec
    teacher = store()[spec.teacher].label
    return f"{data_name(spec)} · {teacher} → {run.label} · {spec.method} · {score(run)} · {ending_of(run)}"


def _cast(student: Run) -> dict[str, Run]:
    """Teacher, control, student and its 8-bit form by role; those that were not tested are left out."""
    control, form = control_of(store(), student), eight_bit_of(student)
    return {TEACHER: store()[student.spec.teacher], **({CONTROL: control} if control else {}), STUDENT: student,
            **({EIGHT_BIT: form} if form else {})}


def _further(student: Run, found: Scores) -> list[MetricRow]:
    """Cases and explanations, each under its own error handling. Returns the rows that were added."""
    with st.skeleton(height=300):
        # torch: seconds, the first time
        from pages.parts.evaluate.eight_bit import eight_bit_section
        from pages.parts.evaluate.explanations import explanation_section
    chosen, rows = None, list[MetricRow]()
    with usage_errors():
        rows += eight_bit_section(student, found)
    with usage_errors():
        chosen, more = explanation_section(student, found)
        rows += more
    with usage_errors():
        gallery(student, found, chosen)
    return rows


with usage_errors():
    main()
