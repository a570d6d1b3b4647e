"""A distillation on one card: while it trains, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from kd.distill import Series, control_of
from kd.runs import FINISHED, QUEUED, RUNNING, Store
from pages.parts import links, listing, progress
from pages.parts.common import CONTROL, MARKS, ROLES, STATUS, STUDENT, TEACHER, count, duration, percent, plain
from pages.parts.listing import Entry
from pages.parts.outcome_view import verdict


@dataclass(frozen=True)
class Trial:
    """One distillation, or a run on its own. arms: by role, in training order; those deleted are left out."""

    arms: Mapping[str, Entry]

    @property
    def student(self) -> Entry:
        """The student; of a run on its own, that run."""
        return self.arms.get(STUDENT) or next(iter(self.arms.values()))

    @property
    def active(self) -> bool:
        """Whether any of its runs is queued or in training."""
        return any(entry.active for entry in self.arms.values())

    @property
    def finished(self) -> bool:
        return all(entry.status == FINISHED for entry in self.arms.values())

    @property
    def title(self) -> str:
        """`brain_tumor · resnet18 → plain5`."""
        teacher = self.arms.get(TEACHER)
        names = [teacher.spec.model_label] if teacher and STUDENT in self.arms else []
        return f"{listing.data_name(self.student.spec)} · {' → '.join([*names, self.student.spec.model_label])}"


def trials(entries: list[Entry], store: Store) -> list[Trial]:
    """Every distillation among these runs, latest first."""
    by_id = {entry.run.id: entry for entry in entries}
    found = []
    for student in (entry for entry in entries if entry.role == STUDENT):
        control = control_of(store, student.run)
        arms = {TEACHER: by_id.get(student.spec.teacher), CONTROL: by_id.get(control.id if control else ""),
                STUDENT: student}
        found.append(Trial({name: entry for name, entry in arms.items() if entry}))
    return found


def live(trial: Trial) -> None:
    """Progress of each arm."""
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{plain(trial.title)}**")
            links.watch(trial.student.run.id)
        for name, entry in trial.arms.items():
            text = f"{MARKS[name]} **{name.capitalize()}** {entry.spec.model_label} · {_state(entry)}"
            share = 1.0 if entry.status == FINISHED else progress.share(entry.run) if entry.status == RUNNING else 0.0
            st.progress(share, text=text)


def _state(entry: Entry) -> str:
    if entry.status == FINISHED:
        return f"finished · {percent(entry.summary.get('accuracy'))}"
    return progress.words(entry.run) if entry.status in (QUEUED, RUNNING) else entry.status


def result(trial: Trial, first: bool = False) -> None:
    """Accuracy and cost of the arms, what distilling bought, and the way to the comparison."""
    student = trial.student
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{plain(trial.title)}**")
        st.caption(f"{student.spec.method} · {student.spec.image_size} px · {student.created:%d %b, %H:%M}",
                   width="content")
    with st.container(horizontal=True, gap="xsmall"):
        for name in ROLES:
            _arm(name, trial.arms.get(name))
    if trial.finished and (told := _verdict(trial)):
        st.markdown(told)
    for name, entry in trial.arms.items():
        if entry.run.reason:
            st.markdown(f"**{name.capitalize()} failed.** {entry.run.reason}")
            break  # what follows failed for want of this one
    _actions(trial, first)


def _arm(name: str, entry: Entry | None) -> None:
    with st.container(gap=None, width=112):
        label = f"{MARKS[name]} {name.capitalize()}"
        if entry is None:
            st.metric(label, "–")
            st.caption("deleted")
        elif entry.status == FINISHED:
            st.metric(label, percent(entry.summary.get("accuracy")))
            st.caption(f"{count(entry.summary.get('parameters'))} params  \n"
                       f"{count(entry.summary.get('flops'))} FLOPs")
        else:
            st.metric(label, "–")
            st.caption(f"{STATUS[entry.status][0]} {entry.status}")


def _verdict(trial: Trial) -> str:
    """What distilling bought and what it cost, in one sentence; empty where an arm is missing."""
    if len(trial.arms) < len(ROLES):
        return ""
    teacher, control, student = (trial.arms[name].run for name in ROLES)
    return verdict(Series(teacher, ((control, student),)))


def _actions(trial: Trial, first: bool) -> None:
    student = trial.student
    with st.container(horizontal=True, vertical_alignment="center"):
        comparable = trial.finished and TEACHER in trial.arms and links.exists("pages/compare.py")
        if comparable and st.button("Compare", icon=":material/compare:", type="primary" if first else "secondary",
                                    key=f"compare-{student.run.id}"):
            st.switch_page("pages/compare.py", query_params={"run": student.run.id})
        if trial.finished and TEACHER in trial.arms:
            links.evaluate(student.run.id)
        links.run(student.run.id, "Details")
        if trial.finished:
            spent = [entry.summary.get("seconds") or 0.0 for entry in trial.arms.values()]
            st.caption(f"trained in {duration(sum(spent))}", width="content")
