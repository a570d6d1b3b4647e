"""A distillation on one card: its progress, then its result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import streamlit as st

from kd.evaluation.run_warnings import beats_majority
from kd.experiments.differences import SeedScores
from kd.roles import CONTROL, MARKS, ROLES, STUDENT, TEACHER
from kd.spec import RunSpec
from kd.store.groups import Replicates, control_of
from kd.store.runs import FINISHED, QUEUED, RUNNING, Store
from pages.parts.shared import links, run_list, run_progress
from pages.parts.shared.format import count, duration, percent, plain
from pages.parts.shared.result_summary import verdict
from pages.parts.shared.run_list import Entry
from pages.parts.shared.run_warnings import MARK, data_verdict_in_short, score
from pages.parts.shared.theme import STATUS


@dataclass(frozen=True)
class Trial:
    """One distillation with all its seeds, or a run on its own. arms: by role, in training order, an entry per seed;
    those deleted are left out. folds: its fold teachers, if any."""

    arms: Mapping[str, tuple[Entry, ...]]
    folds: tuple[Entry, ...] = ()

    @property
    def student(self) -> Entry:
        """The first seed's student; of a run on its own, that run."""
        return (self.arms.get(STUDENT) or next(iter(self.arms.values())))[0]

    @property
    def entries(self) -> list[Entry]:
        return [*(entry for arm in self.arms.values() for entry in arm), *self.folds]

    @property
    def active(self) -> bool:
        """Whether any of its runs is queued or in training."""
        return any(entry.active for entry in self.entries)

    @property
    def running(self) -> bool:
        """Whether any of its runs is in training, and does not just wait."""
        return any(entry.status == RUNNING for entry in self.entries)

    @property
    def finished(self) -> bool:
        return all(entry.status == FINISHED for entry in self.entries)

    @property
    def title(self) -> str:
        """`brain_tumor · resnet18 → plain5 · kd · 3 seeds`."""
        teacher, students = self.arms.get(TEACHER), self.arms.get(STUDENT, ())
        names = [teacher[0].spec.model_label] if teacher and students else []
        seeds = f" · {len(students)} seeds" if len(students) > 1 else ""
        spec = self.student.spec
        method = f" · {spec.method_label}" if spec.teacher else ""
        return f"{run_list.data_name(spec)} · {' → '.join([*names, spec.model_label])}{method}{seeds}"

    @property
    def series(self) -> Replicates | None:
        """Its seeds that have both control and student; None where there is none, or no teacher."""
        controls = {entry.spec.seed: entry.run for entry in self.arms.get(CONTROL, ())}
        pairs = tuple((controls[entry.spec.seed], entry.run) for entry in self.arms.get(STUDENT, ())
                      if entry.spec.seed in controls)
        if not pairs or TEACHER not in self.arms:
            return None
        return Replicates(self.arms[TEACHER][0].run, pairs, tuple(entry.run for entry in self.folds))


def trials(entries: list[Entry], store: Store) -> list[Trial]:
    """Every distillation among these runs, latest first; its seeds are one."""
    by_id = {entry.run.id: entry for entry in entries}
    seeds: dict[RunSpec, list[Entry]] = {}
    for student in (entry for entry in entries if entry.role == STUDENT):
        seeds.setdefault(replace(student.spec, seed=0), []).append(student)
    found = []
    for students in seeds.values():
        students.sort(key=lambda entry: entry.spec.seed)
        controls = [by_id.get(run.id) for one in students if (run := control_of(store, one.run))]
        arms: dict[str, Sequence[Entry | None]] = {TEACHER: [by_id.get(students[0].spec.teacher)], CONTROL: controls,
                                                   STUDENT: students}
        there = {name: tuple(entry for entry in arm if entry) for name, arm in arms.items()}
        folds = tuple(entry for run in store.fold_teachers(students[0].spec) if (entry := by_id.get(run.id)))
        found.append(Trial({name: arm for name, arm in there.items() if arm}, folds))
    return found


def live(trial: Trial) -> None:
    """Progress of each arm."""
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{plain(trial.title)}**")
            links.watch(trial.student.run.id)
        for name, arm in trial.arms.items():
            _progress(name, _called(name, arm), arm)
            if name == TEACHER and trial.folds:
                _progress(name, "Fold teachers", trial.folds)


def _progress(role: str, name: str, arm: Sequence[Entry]) -> None:
    now = next((entry for entry in arm if entry.status == RUNNING), None)
    words = _state(arm[0]) if len(arm) == 1 else _states(arm, now)
    st.progress(run_progress.of_all([entry.run for entry in arm]),
                text=f"{MARKS[role]} **{name}** {arm[0].spec.model_label} · {words}")


def _called(name: str, arm: Sequence[Entry]) -> str:
    return name.capitalize() + ("s" if len(arm) > 1 else "")


def _state(entry: Entry) -> str:
    if entry.status == FINISHED:
        return f"finished · {score(entry.run)}"
    return run_progress.words(entry.run) if entry.status in (QUEUED, RUNNING) else entry.status


def _states(arm: Sequence[Entry], now: Entry | None) -> str:
    done = sum(entry.status == FINISHED for entry in arm)
    if now is None:
        return f"{done} of {len(arm)} finished"
    which = f"fold {now.spec.fold}" if now.spec.fold else f"seed {now.spec.seed}"
    return f"{done} of {len(arm)} finished · {which}: {run_progress.words(now.run)}"


def result(trial: Trial, first: bool = False) -> None:
    """Accuracy and cost of the arms, the gain from distillation, and the link to the comparison."""
    student = trial.student
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{plain(trial.title)}**")
        st.caption(f"{student.spec.sizes} · {student.created:%d %b, %H:%M}", width="content")
    with st.container(horizontal=True, gap="xsmall"):
        for name in ROLES:
            _arm(name, trial.arms.get(name, ()))
    if text := _verdict(trial):
        st.markdown(text)
    if trial.finished:
        data_verdict_in_short(student.run)
    failed = next((entry for entry in trial.entries if entry.run.failure_reason), None)
    if failed:  # the first: what follows failed for want of it
        role = "fold teacher" if failed.spec.fold else failed.role
        st.markdown(f"**{role.capitalize()} {failed.status}.** {plain(failed.run.failure_reason)}")
    _actions(trial, first)


def _arm(name: str, arm: Sequence[Entry]) -> None:
    with st.container(gap=None, width=112):
        label = f"{MARKS[name]} {_called(name, arm)}"
        done = [entry.summary for entry in arm if entry.status == FINISHED and "accuracy" in entry.summary]
        if done:
            scores = SeedScores(tuple(one["accuracy"] for one in done))
            st.metric(label, percent(scores.mean))
            spread = "" if scores.sd is None else f"± {percent(scores.sd)} over seeds  \n"
            if not all(beats_majority(entry.run) for entry in arm):
                st.caption(f"{MARK} no better than the majority class")
            st.caption(f"{spread}{count(done[0].get('parameters'))} params  \n{count(done[0].get('flops'))} FLOPs")
        else:
            st.metric(label, "–")
            st.caption(f"{STATUS[arm[0].status][0]} {arm[0].status}" if arm else "deleted")


def _verdict(trial: Trial) -> str:
    """Gain and cost of the distillation in one sentence; empty where an arm is missing."""
    return verdict(trial.series) if trial.series else ""


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
            spent = [entry.summary.get("seconds") or 0.0 for entry in trial.entries]
            st.caption(f"trained in {duration(sum(spent))}", width="content")
