"""All runs as the pages show them: each read once, with its role and status."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st

from kd.roles import CONTROL, STUDENT, TEACHER
from kd.spec import RunSpec
from kd.store.eight_bit import EightBit
from kd.store.groups import control_spec, teacher_label
from kd.store.runs import DAMAGED, QUEUED, RUNNING, Run, Store
from pages.parts.shared import links
from pages.parts.shared.format import role


@dataclass(frozen=True)
class Entry:
    """One run as it was when the page looked. summary: empty until it has finished."""

    run: Run
    spec: RunSpec
    role: str
    status: str
    summary: dict[str, Any]

    @property
    def active(self) -> bool:
        """Queued or in training, in whichever process."""
        return self.status in (QUEUED, RUNNING)

    @property
    def created(self) -> datetime:
        """When the run was planned, local time."""
        return datetime.fromtimestamp(self.run.planned_at)

    @property
    def title(self) -> str:
        """Role and model: `student plain5`; `fold teacher 2 of 5, resnet18`."""
        return teacher_label(self.spec) if self.spec.fold else f"{self.role} {self.spec.model_label}"


def entries(store: Store) -> list[Entry]:
    """Every run of the store, latest first."""
    found = list(store)
    roles = _roles([run.spec for run in found])
    return [Entry(run, run.spec, roles[run.spec.id], run.status, run.summary or {}) for run in found]


def active(store: Store) -> list[Entry]:
    """Runs queued or in training, the one in training first, then as they were planned."""
    found = [entry for entry in entries(store) if entry.active]
    return sorted(found, key=lambda entry: (entry.status != RUNNING, entry.created))


def ending_of(run: Run) -> str:
    """The last letters of a run's id, to tell runs alike apart in lists."""
    return (run.source if isinstance(run, EightBit) else run).id[-4:]


def data_name(spec: RunSpec) -> str:
    """The data set in a word or two: a phantom's name, or the folder's or file's."""
    name, _, _ = spec.data.partition(":")
    return name if name.startswith("phantom") else Path(spec.data).name


def _roles(specs: list[RunSpec]) -> dict[str, str]:
    """Role by run id. A control differs from its student by method and teacher only."""
    students = [spec for spec in specs if spec.teacher]
    teachers = {spec.teacher for spec in students}
    controls = {control_spec(spec).id for spec in students}
    return {spec.id: STUDENT if spec.teacher else CONTROL if spec.id in controls
            else TEACHER if spec.id in teachers else role(spec) for spec in specs}


def show_damaged(entries: list[Entry], store: Store) -> None:
    """One line on damaged runs, with the way to them; nothing where there are none."""
    number = sum(entry.status == DAMAGED for entry in entries) + len(store.unreadable())
    if number:
        with st.container(border=True, horizontal=True, vertical_alignment="center",
                          horizontal_alignment="distribute"):
            st.markdown(f":material/broken_image: **{'One run is' if number == 1 else f'{number} runs are'} damaged** "
                        "and cannot be used. The others are not affected.", width="content")
            links.run(label="See why")
