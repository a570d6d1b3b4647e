"""Do they look at the same thing? A teacher's map beside that of its student and the control, and their stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd import figure
from kd.distill import control_of
from kd.errors import UsageError
from kd.explain import Explanation, Question, explain_together, pack, protocol_line
from kd.explainers import EXPLAINERS
from kd.pool import ModelPool, Subject, open_subject
from kd.runs import Run, Store, write_bytes, write_json

TEACHER, CONTROL, STUDENT = ROLES = ("teacher", "control", "student")
CAM, HIERARCHY = "grad-cam", "stage-maps"
OTHERS = ("student 2", "student 3", "student 4")  # the roles of further students, in the order they were named
_COLORS = {**figure.COLORS, **dict(zip(OTHERS, ("#2a8f5b", "#a3529b", "#a8323e"), strict=True))}


@dataclass(frozen=True, eq=False)
class Part:
    """What one model shows: one explainer's map of one stage (`cam`), and (all but the teacher) every stage's map."""

    role: str
    cam: Explanation
    hierarchy: Explanation | None

    @property
    def label(self) -> str:
        return self.cam.run.spec.model_label

    def to_json(self) -> dict[str, Any]:
        """Plain, finite values."""
        seen = {self.cam.explainer: self.cam, **({HIERARCHY: self.hierarchy} if self.hierarchy else {})}
        shared = ("run", "predicted", "probabilities", "parameters", "flops", "note")
        full = self.cam.to_json()
        return {"model": self.label, **{key: full[key] for key in shared},
                **{name: {key: value for key, value in one.to_json().items() if key not in (*shared, "protocol")}
                   for name, one in seen.items()}}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Teacher, control (None when it is gone), student and others on one image [S, S, 3], for one target class.

    others: up to three further students of the same data set.
    """

    image: NDArray[np.uint8]
    teacher: Part
    control: Part | None
    student: Part
    notes: tuple[str, ...]
    others: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(part for part in (self.teacher, self.control, self.student, *self.others) if part)

    @property
    def explainer(self) -> str:
        return self.teacher.cam.explainer

    @property
    def target(self) -> str:
        return self.teacher.cam.classes[self.teacher.cam.target]

    def ratios(self) -> dict[str, float]:
        """How many times more the teacher costs than the student: one explainer's map against the other's, the
        teacher's against the student's stage maps, forward passes (medians of seconds), FLOPs and parameters."""
        teacher, student, hierarchy = self.teacher.cam, self.student.cam, self.student.hierarchy
        assert hierarchy is not None, "the student's stages are always asked for"
        return {self.explainer: teacher.timing.median / student.timing.median,
                HIERARCHY: teacher.timing.median / hierarchy.timing.median,
                "forward": teacher.forward.median / student.forward.median,
                "flops": teacher.flops / student.flops, "parameters": teacher.parameters / student.parameters}

    def to_json(self) -> dict[str, Any]:
        """Plain, finite values."""
        return {"target": self.target, "classes": list(self.teacher.cam.classes),
                **{part.role: part.to_json() for part in self.parts}, "teacher_to_student": self.ratios(),
                "protocol": self.teacher.cam.protocol, "notes": list(self.notes)}

    def arrays(self) -> dict[str, NDArray]:
        """The image, and every raw map at its own grid as `<role>_<explainer>_layer<number>`."""
        maps = {f"{part.role}_{name}": values for part in self.parts for one in (part.cam, part.hierarchy) if one
                for name, values in one.arrays().items()}
        return {"image": self.image, **maps}

    def picture(self, opacity: float = figure.OPACITY, colormap: str = figure.COLORMAP) -> bytes:
        """The comparison figure as PNG."""
        return figure.draw(self.sheet(), opacity, colormap)

    def save(self, folder: Path) -> dict[str, Path]:
        """Write `comparison.png`, `maps.npz` and, last, `comparison.json`."""
        paths = {name: folder / name for name in ("comparison.png", "maps.npz", "comparison.json")}
        write_bytes(paths["comparison.png"], self.picture())
        write_bytes(paths["maps.npz"], pack(self.arrays()))
        write_json(paths["comparison.json"], self.to_json())
        return paths

    def sheet(self) -> figure.Sheet:
        """What the figure shows."""
        bars = tuple(figure.Bars(part.role, part.cam.probabilities, _COLORS[part.role]) for part in self.parts)
        return figure.Sheet(self.image, tuple(map(self._row, self.parts)), self.teacher.cam.classes, bars,
                            self.teacher.cam.target, (*self._reading(), *self.notes),
                            protocol_line(self.teacher.cam.protocol))

    def _row(self, part: Part) -> figure.Row:
        title = EXPLAINERS[self.explainer].facts.title
        cam = figure.Tile(f"{title} · {part.cam.maps[0].grid}", part.cam.maps[0].scaled, part.cam.maps[0].blank,
                          part.cam.maps[0].signed)
        stages = part.hierarchy.tiles() if part.hierarchy else ()
        costly = part.hierarchy or part.cam
        return figure.Row(f"{part.role.capitalize()} · {part.label}", costly.cost_line(), cam, stages)

    def _reading(self) -> tuple[str, ...]:
        ratio = self.ratios()
        share = 100 / ratio["flops"]
        facts = EXPLAINERS[self.explainer].facts
        asked = f", for “{self.target}”" if facts.class_specific else ""
        return (f"{facts.title}{asked}: {facts.seeing}",
                f"Layers: {EXPLAINERS[HIERARCHY].facts.seeing}",
                f"The student's layers come {ratio[HIERARCHY]:.1f} × as fast as the teacher's {facts.title}, at "
                f"{share:.{1 if share < 10 else 0}f} % of its FLOPs.")


def compare(store: Store, student: Run, image: NDArray[np.uint8], target: int | str | None = None,
            repeats: int = 5, pool: ModelPool | None = None, explainer: str = CAM, stage: int = -1,
            others: Sequence[Run] = ()) -> Comparison:
    """Teacher, control and student on one picture [S, S, 3]; all times taken in turn.

    target: class number or name, by default the class that the teacher predicts. explainer: its map of `stage` (from 0,
    or from the end where negative) is asked of every model. others: at most three further students of the same data set
    to stand beside. Raises UsageError when the run has no teacher, explainer, stage or class is unknown, a model has no
    weights, or a further student learnt other classes.
    """
    EXPLAINERS[explainer]
    teacher = open_subject(_teacher_of(store, student), pool)
    control, absent = _control(store, student, pool)
    number = int(teacher.probabilities(image).argmax()) if target is None else teacher.class_number(target)
    subjects = {TEACHER: teacher, **({CONTROL: control} if control else {}), STUDENT: open_subject(student, pool),
                **_beside(teacher, others, pool)}
    asked = [Question(subject, name, subject.class_number(teacher.classes[number]), stages)
             for role, subject in subjects.items() for name, stages in ((explainer, (stage,)), (HIERARCHY, None))
             if role != TEACHER or stages]
    answers = iter(explain_together(asked, image, repeats))
    made = {role: Part(role, next(answers), None if role == TEACHER else next(answers)) for role in subjects}
    notes = tuple(filter(None, (*(subject.note for subject in subjects.values()), absent)))
    return Comparison(image, made[TEACHER], made.get(CONTROL), made[STUDENT], notes,
                      tuple(made[role] for role in OTHERS if role in made))


def _beside(teacher: Subject, others: Sequence[Run], pool: ModelPool | None) -> dict[str, Subject]:
    """Further students by role."""
    if len(others) > len(OTHERS):
        raise UsageError(f"{len(others)} further students are too many to tell apart. Name at most {len(OTHERS)}.")
    subjects = {role: open_subject(run, pool) for role, run in zip(OTHERS, others, strict=False)}
    for subject in subjects.values():
        if subject.classes != teacher.classes:
            raise UsageError(f"{subject.run.id} learnt other classes ({', '.join(subject.classes)}), so it cannot "
                             "stand beside this student. Choose one of the same data set.")
    return subjects


def _teacher_of(store: Store, student: Run) -> Run:
    if student.spec.teacher:
        return store[student.spec.teacher]
    pupils = [run.id for run in store if run.spec.teacher]
    way_out = f"Compare a student: {', '.join(pupils[:5])}." if pupils else "There is no student yet: distil one first."
    raise UsageError(f"{student.id} learnt without a teacher, so there is nothing to compare it with. {way_out}")


def _control(store: Store, student: Run, pool: ModelPool | None) -> tuple[Subject | None, str]:
    """The control arm, or None and a sentence on what is missing."""
    run = control_of(store, student)
    if run is None:
        return None, "The control (the same student without a teacher) is not in this store."
    if not run.weights.exists():
        return None, f"The control {run.id} is {run.status} and has no weights yet."
    return open_subject(run, pool), ""
