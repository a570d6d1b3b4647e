"""Status of a distillation: a row for the teacher, one for its fold teachers, for all controls, for all students."""

from collections.abc import Sequence

import streamlit as st

from kd.roles import CONTROL, MARKS, STUDENT, TEACHER
from kd.store.groups import Replicates
from kd.store.runs import CANCELLED, DAMAGED, FAILED, FINISHED, INTERRUPTED, PLANNED, QUEUED, RUNNING, Run
from pages.parts.shared import run_progress
from pages.parts.shared.format import count, duration, plain
from pages.parts.shared.run_warnings import score
from pages.parts.shared.theme import STATUS

# What the row of several runs is called after: the first of these that one of them is in.
TELLING = (RUNNING, DAMAGED, FAILED, QUEUED, INTERRUPTED, CANCELLED, PLANNED, FINISHED)


def seed_status(series: Replicates) -> None:
    """Draw a row per role; errors once each: what fails one run for want of data fails the next as well."""
    controls, students = zip(*series.pairs, strict=True)
    with st.container(border=True, gap="small"):
        reported: set[str] = set()
        for runs, role, name in (([series.teacher], TEACHER, "Teacher"), (series.folds, TEACHER, "Fold teacher"),
                                 (controls, CONTROL, "Control"), (students, STUDENT, "Student")):
            if runs:
                _row(role, name, runs)
            for run in runs:
                if run.failure_reason and run.failure_reason not in reported:
                    st.error(plain(run.failure_reason), icon=":material/error:")
                reported.add(run.failure_reason)


def _row(role: str, name: str, runs: Sequence[Run]) -> None:
    statuses = [run.status for run in runs]
    status = next(one for one in TELLING if one in statuses)
    icon, colour = STATUS[status]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        name += "s" if len(runs) > 1 else ""
        st.markdown(f"{MARKS[role]} **{name}** · {runs[0].spec.model_label}", width="content")
        st.badge(status, icon=icon, color=colour)
        st.caption(_of_all(runs, statuses) if len(runs) > 1 else words(runs[0], status), width="content")
    if RUNNING in statuses:
        st.progress(run_progress.of_all(runs))


def _of_all(runs: Sequence[Run], statuses: Sequence[str]) -> str:
    """`1 of 3 finished · seed 1: epoch 4 of 8 …`."""
    done = f"{statuses.count(FINISHED)} of {len(runs)} finished"
    for wanted in (RUNNING, DAMAGED, FAILED):
        if wanted in statuses:
            run = runs[statuses.index(wanted)]
            which = f"fold {run.spec.fold}" if run.spec.fold else f"seed {run.spec.seed}"
            return f"{done} · {which}: {words(run, wanted)}"
    return done


def words(run: Run, status: str) -> str:
    """Progress of a run, or its result."""
    if status == FINISHED:
        return f"{score(run)} on test · trained in {duration((run.summary or {}).get('seconds'))}"
    if status == RUNNING:
        return _running(run)
    if status == PLANNED:
        return "not started"
    done = len(run.epochs())
    if status == QUEUED:
        return "queued" + (f" · resumes after epoch {done}" if done else "")
    return f"after {done} of {run.spec.epochs} epochs" if done else "before its first epoch ended"


def _running(run: Run) -> str:
    now = run.progress
    if not now.get("steps"):
        return run_progress.words(run)
    speed = f" · {count(round(now['images_per_second']))} images/s" if now.get("images_per_second") else ""
    return f"epoch {now['epoch'] + 1} of {now['epochs']}{speed} · {run_progress.words(run)}"
