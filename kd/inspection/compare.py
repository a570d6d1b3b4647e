"""Comparison of explanations: a teacher's map beside those of its student and the control, and their stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.evaluation.run_warnings import warnings_by_role
from kd.explainers import DEFAULT_STAGE, EXPLAINERS, StageChoice, offered, require_offered
from kd.inspection import figure
from kd.inspection.agreement_sentence import Answer
from kd.inspection.compared_models import control_model, models_beside, teacher_of
from kd.inspection.explain import ExplainRequest, Explanation, explain_many, pack, protocol_line
from kd.inspection.model_pool import LoadedModel, ModelPool, load_model
from kd.metrics.grids import coarse_note
from kd.models.base import Classifier
from kd.models.masked_student import MaskedStudent
from kd.roles import COLOURS, CONTROL, EIGHT_BIT, OTHERS, STUDENT, TEACHER
from kd.store.files import write_bytes, write_json
from kd.store.runs import Run, Store

CAM, HIERARCHY, MASK, SENSITIVITY = "grad-cam", "stage-maps", "mask", "sensitivity"


@dataclass(frozen=True, eq=False)
class ModelPanel:
    """Panel of one model: one explainer's map of one stage, and every stage's map (of all but the teacher).

    mask: what a masked student's mask is cut from; `explanation` itself where that is it. masked_image: uint8
    [S, S, 3], the image under the mask. mask_area: the share that it shows, where finite. sensitivity: the teacher's
    second map, where `explanation` is by another explainer.
    """

    role: str
    explanation: Explanation
    stage_maps: Explanation | None
    mask: Explanation | None = None
    masked_image: NDArray[np.uint8] | None = None
    mask_area: float | None = None
    sensitivity: Explanation | None = None

    @property
    def label(self) -> str:
        return self.explanation.run.label

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        """All explanations of the panel."""
        return tuple(one for one in (self.explanation, self.sensitivity, self.stage_maps, self.extra_mask) if one)

    @property
    def main_maps(self) -> tuple[Explanation, ...]:
        """The explanations with one map each, which stand in front of the stage maps."""
        return tuple(one for one in (self.explanation, self.sensitivity, self.extra_mask) if one)

    @property
    def extra_mask(self) -> Explanation | None:
        """The mask, where `explanation` is by another explainer."""
        return None if self.mask is self.explanation else self.mask

    @property
    def trained_with_outlines(self) -> bool:
        """Whether the mask network learnt from outlines of the evidence in the training images."""
        return self.mask is not None and self.mask.run.spec.learns_outlines

    def to_json(self) -> dict[str, Any]:
        """Plain, finite values."""
        seen = {one.explainer: one for one in self.explanations}
        share = {} if self.mask is None else {"shown": self.mask_area}
        shared = ("run", "predicted", "probabilities", "parameters", "flops", "note")
        full = self.explanation.to_json()
        return {"model": self.label, **{key: full[key] for key in shared}, **share,
                **{name: {key: value for key, value in one.to_json().items() if key not in (*shared, "protocol")}
                   for name, one in seen.items()}}


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Comparison of teacher, control (None if deleted), student and others on one image [S, S, 3], for one class.

    others: up to three further students of the same data set, and the student's 8-bit form. original: the image as
    figures show it, None for itself. answer: whether the models look at the same places, once it has been computed
    (`kd.inspection.answer`).
    """

    image: NDArray[np.uint8]
    teacher: ModelPanel
    control: ModelPanel | None
    student: ModelPanel
    notes: tuple[str, ...]
    others: tuple[ModelPanel, ...] = ()
    original: NDArray[np.uint8] | None = None
    answer: Answer | None = None

    @property
    def panels(self) -> tuple[ModelPanel, ...]:
        return tuple(part for part in (self.teacher, self.control, self.student, *self.others) if part)

    @property
    def explainer(self) -> str:
        """Name of the explainer of the teacher's map."""
        return self.teacher.explanation.explainer

    @property
    def coarse(self) -> str:
        """A sentence on the models' maps that are too coarse to tell where; mostly empty. Not on stage maps."""
        return coarse_note((part.role.capitalize(), one.maps[0].values.shape) for part in self.panels
                           for one in (part.explanation, part.extra_mask) if one)

    @property
    def explainers(self) -> tuple[str, ...]:
        """Names of the explainers used: one, or Grad-CAM and the mask where not every model has a mask."""
        return tuple(dict.fromkeys(part.explanation.explainer for part in self.panels))

    @property
    def target(self) -> str:
        return self.teacher.explanation.classes[self.teacher.explanation.target]

    def faster(self, one: Explanation) -> float:
        """Speed of an explanation relative to the teacher's: ratio of the medians."""
        return self.teacher.explanation.timing.median / one.timing.median

    def ratios(self) -> dict[str, float]:
        """Ratios of the teacher's costs to the student's: the teacher's map against each explanation of the student, by
        its explainer; forward passes (medians of seconds), FLOPs and parameters."""
        teacher, student = self.teacher.explanation, self.student.explanation
        return {**{one.explainer: self.faster(one) for one in self.student.explanations},
                "forward": teacher.forward.median / student.forward.median,
                "flops": teacher.flops / student.flops, "parameters": teacher.parameters / student.parameters}

    def to_json(self) -> dict[str, Any]:
        """Plain, finite values."""
        return {"answer": self.answer and self.answer.to_json(), "target": self.target,
                "classes": list(self.teacher.explanation.classes),
                **{part.role: part.to_json() for part in self.panels}, "teacher_to_student": self.ratios(),
                "protocol": self.teacher.explanation.protocol, "notes": list(self.notes)}

    def arrays(self) -> dict[str, NDArray]:
        """The image, every raw map at its own grid as `<role>_<explainer>_layer<number>`, and the image that a masked
        student sees as `<role>_seen`."""
        maps = {f"{part.role}_{name}": values for part in self.panels for one in part.explanations
                for name, values in one.arrays().items()}
        seen = {f"{part.role}_seen": part.masked_image for part in self.panels if part.masked_image is not None}
        return {"image": self.image, **maps, **seen}

    def picture(self, opacity: float = figure.OPACITY, colormap: str = figure.COLORMAP,
                image: NDArray[np.uint8] | None = None) -> bytes:
        """The comparison figure as PNG. image: the image as it is shown [S, S, 3], by default `original`."""
        return figure.draw(self.figure_spec(), opacity, colormap, self.original if image is None else image)

    @property
    def maps(self) -> dict[str, NDArray]:
        """The arrays of `arrays` by the same names."""
        return self.arrays()

    def __repr__(self) -> str:
        models = ", ".join(f"{part.role} {part.label}" for part in self.panels)
        return f"<Comparison of {models} by {', '.join(self.explainers)} for {self.target!r}>"

    def _repr_png_(self) -> bytes:
        return self.picture()

    def save(self, path: str | PathLike[str], image: NDArray[np.uint8] | None = None) -> dict[str, Path]:
        """Write the figure to a .png file; or into a folder `comparison.png`, `maps.npz` and, last, `comparison.json`.
        image: as of `picture`. Raises UsageError for an image file of another kind."""
        if figure.is_png(folder := Path(path)):
            write_bytes(folder, self.picture(image=image))
            return {folder.name: folder}
        paths = {name: folder / name for name in ("comparison.png", "maps.npz", "comparison.json")}
        write_bytes(paths["comparison.png"], self.picture(image=image))
        write_bytes(paths["maps.npz"], pack(self.arrays()))
        write_json(paths["comparison.json"], self.to_json())
        return paths

    def figure_spec(self) -> figure.FigureSpec:
        """What the figure shows."""
        bars = tuple(figure.ClassBars(part.role, part.explanation.probabilities, COLOURS[part.role])
                     for part in self.panels)
        return figure.FigureSpec(self.image, tuple(map(self._row, self.panels)), self.teacher.explanation.classes, bars,
                            self.teacher.explanation.target, (*self._answer(), *self._reading(), *self.notes),
                            protocol_line(self.teacher.explanation.protocol))

    def _row(self, part: ModelPanel) -> figure.ModelRow:
        stages = part.stage_maps.tiles() if part.stage_maps else ()
        costly = part.stage_maps or part.explanation
        return figure.ModelRow(f"{part.role.capitalize()} · {part.label}", costly.cost_line(),
                          tuple(map(_tile, part.main_maps)), stages)

    def _answer(self) -> tuple[str, ...]:
        return (self.answer.text,) if self.answer else ()

    def _reading(self) -> tuple[str, ...]:
        ratio, title = self.ratios(), EXPLAINERS[self.explainer].info.title
        share = 100 / ratio["flops"]
        masked = [part for part in self.panels if part.mask]
        second = [SENSITIVITY] if self.teacher.sensitivity else []
        names = dict.fromkeys((*self.explainers, *second, *([MASK] if masked else [])))
        return (*map(self._meaning, names),
                f"Stage maps: {EXPLAINERS[HIERARCHY].info.reading_note}",
                f"The student's stage maps come {ratio[HIERARCHY]:.1f} × as fast as the teacher's {title}, at "
                f"{share:.{1 if share < 10 else 0}f} % of its FLOPs.",
                *(self._mask_line(part, title) for part in masked))

    def _meaning(self, name: str) -> str:
        facts = EXPLAINERS[name].info
        asked = f", for “{self.target}”" if facts.class_specific else ""
        return f"{facts.title}{asked}: {facts.reading_note}" + " In its own values, from 0 to 1." * facts.absolute

    def _mask_line(self, part: ModelPanel, title: str) -> str:
        assert part.mask
        share = "an unknown share" if part.mask_area is None else f"{100 * part.mask_area:.0f} % of the image"
        outlines = " It was trained with the outlines of the training images." if part.trained_with_outlines else ""
        return (f"The {part.role}'s mask shows it {share}. It comes {self.faster(part.mask):.1f} × as fast as the "
                f"teacher's {title}.{outlines}")


def compare(store: Store, student: Run, image: NDArray[np.uint8], target: int | str | None = None,
            repeats: int = 5, pool: ModelPool | None = None, explainer: str = CAM, stage: StageChoice = DEFAULT_STAGE,
            others: Sequence[Run] = ()) -> Comparison:
    """Comparison of teacher, control and student on one image [S, S, 3]; all times measured in turn.

    target: class number or name, by default the class that the teacher predicts. explainer: by which every model is
    explained at `stage` (from 0, or from the end where negative; by default the explainer's own), or its replacement
    (`kd.explainers.explainer_for`). others: at most three further students of the same data set, and the student's
    8-bit form. The teacher's sensitivity map and a masked student's mask are always included. Raises UsageError when
    the run has no teacher, when explainer, stage or class is unknown or the explainer not possible with an 8-bit
    student, when it is the mask and no model has one, when a model has no weights, or a further student has other
    classes.
    """
    EXPLAINERS[explainer]
    teacher = load_model(teacher_of(store, student), pool)
    control, absent = control_model(store, student, pool)
    number = int(teacher.probabilities(image).argmax()) if target is None else teacher.class_number(target)
    subjects = {TEACHER: teacher, **({CONTROL: control} if control else {}), STUDENT: load_model(student, pool),
                **models_beside(teacher, student, others, pool)}
    runs = [subject.run for subject in subjects.values()]
    require_offered([explainer], runs)
    if explainer not in offered(runs):
        raise UsageError("None of these models has a mask: only a student that was distilled with a mask network "
                         f"(method medtex) has one. Choose {CAM}, or compare such a student.")
    asked = {role: _questions(role, subject, explainer, stage, teacher.classes[number])
             for role, subject in subjects.items()}
    answers = iter(explain_many([one for each in asked.values() for one in each.values()], image, repeats))
    made = {role: _part(role, subjects[role].model, {name: next(answers) for name in each})
            for role, each in asked.items()}
    warned = warnings_by_role({role: [subject.run] for role, subject in subjects.items()})
    notes = tuple(filter(None, (*(subject.note for subject in subjects.values()), absent, *warned)))
    return Comparison(image, made[TEACHER], made.get(CONTROL), made[STUDENT], notes,
                      tuple(made[role] for role in (EIGHT_BIT, *OTHERS) if role in made))


def _questions(role: str, subject: LoadedModel, explainer: str, stage: StageChoice,
               target: str) -> dict[str, ExplainRequest]:
    """Requests for one model: its map, the teacher's sensitivity map, the others' stage maps, and the mask."""
    number = subject.class_number(target)
    requests = {"cam": ExplainRequest(subject, explainer, number, (stage,))}
    if role != TEACHER:
        requests["hierarchy"] = ExplainRequest(subject, HIERARCHY, number, None)
    elif explainer != SENSITIVITY:
        requests["sensitivity"] = ExplainRequest(subject, SENSITIVITY, number)
    if subject.model.has_mask and explainer != MASK:
        requests["mask"] = ExplainRequest(subject, MASK, number)
    return requests


def _part(role: str, model: Classifier, found: Mapping[str, Explanation]) -> ModelPanel:
    cam = found["cam"]
    mask = cam if cam.explainer == MASK else found.get("mask")
    image, area = _masked(model, mask) if mask else (None, None)
    return ModelPanel(role, cam, found.get("hierarchy"), mask, image, area, found.get("sensitivity"))


def _masked(model: Classifier, mask: Explanation) -> tuple[NDArray[np.uint8], float | None]:
    """The image [S, S, 3] under the model's mask, and the share of it that the mask shows."""
    assert isinstance(model, MaskedStudent)
    with torch.no_grad():
        own = model.predict_mask(image := to_tensor(mask.image[None], model.mean.device))
        shown = model.apply_mask(image, own)[0].nan_to_num()
    pixels = np.asarray((shown * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy())
    return pixels, float(own.mean()) if own.isfinite().all() else None


def _tile(one: Explanation) -> figure.HeatmapTile:
    heat = one.maps[0]
    title = EXPLAINERS[one.explainer].info.title
    return heat.tile(f"{title} · {heat.grid}")
