"""One call to explain one image by any model."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import nn

from kd.api.images import ImageLike, as_image, as_original
from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.explainers import DEFAULT_STAGE, EXPLAINERS, Maps, explainer_for
from kd.explainers.base import stage_number
from kd.inspection import figure
from kd.inspection.explain import pack
from kd.inspection.heat_map import HeatMap
from kd.inspection.model_pool import class_number, load_model
from kd.inspection.overlay import OPACITY, SIGNED, overlay, upsample
from kd.metrics.classification import softmax
from kd.models.base import Classifier
from kd.models.wrapped import Wrapped, wrap
from kd.roles import COLOURS, STUDENT
from kd.store.files import write_bytes, write_json
from kd.store.runs import Run


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """One explainer's maps of one image by one model. Shows itself in a notebook; as an array it is its last map.

    explainer: its name. model: the model's. image: uint8 [S, S, 3], as the model saw it. target: the number of the
    class that was asked for. classes: their names. probabilities: [K]. maps: of each stage asked for, from the input
    on, raw (`values`) and in 0..1 (`scaled`), both float32 [h, w] at their own grid. original: the image at its own
    resolution [S, S, 3], which figures show.
    """

    explainer: str
    model: str
    image: NDArray[np.uint8]
    target: int
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    maps: tuple[HeatMap, ...]
    original: NDArray[np.uint8]

    @property
    def predicted(self) -> int:
        """The number of the likeliest class."""
        return int(self.probabilities.argmax())

    @property
    def heat(self) -> NDArray[np.float32]:
        """The last map in 0..1, interpolated to the image's size [S, S]; 0.5 is neutral where the map is signed."""
        return upsample(self.maps[-1].scaled, self.image.shape[0], self.maps[-1].placement)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.heat, dtype=dtype)

    def overlay(self, opacity: float = OPACITY, colormap: str = figure.COLORMAP) -> NDArray[np.uint8]:
        """The image [S, S, 3] under the last map, coloured. opacity: 0 is the image alone, 1 the map alone."""
        last = self.maps[-1]
        return overlay(self.image, last.scaled, opacity, SIGNED if last.signed else colormap, last.placement)

    def save(self, path: str | PathLike[str]) -> dict[str, Path]:
        """Write the figure to a .png file; or into a folder the figure, the raw maps (.npz) and the facts (.json).

        Raises UsageError for an image file of another kind.
        """
        if figure.is_png(place := Path(path)):
            write_bytes(place, self._repr_png_())
            return {place.name: place}
        paths = {name: place / name for name in ("explanation.png", "maps.npz", "explanation.json")}
        write_bytes(paths["explanation.png"], self._repr_png_())
        arrays = {name: values for one in self.maps for name, values in one.arrays().items()}
        write_bytes(paths["maps.npz"], pack({"image": self.image, **arrays}))
        write_json(paths["explanation.json"], self.to_json())
        return paths

    def to_json(self) -> dict[str, Any]:
        """Plain values: what was explained, and how; without the maps' values."""
        facts = EXPLAINERS[self.explainer].info
        return {"explainer": self.explainer, "title": facts.title, "paper": facts.paper, "meaning": facts.reading_note,
                "class_specific": facts.class_specific, "model": self.model, "target": self.classes[self.target],
                "predicted": self.classes[self.predicted],
                "probabilities": {name: float(value) if np.isfinite(value) else None for name, value
                                  in zip(self.classes, self.probabilities, strict=True)},
                "maps": [one.to_json() for one in self.maps]}

    def _repr_png_(self) -> bytes:
        facts = EXPLAINERS[self.explainer].info
        asked = f" for “{self.classes[self.target]}”" if facts.class_specific else ""
        tiles = tuple(one.tile(_label(one)) for one in self.maps)
        row = figure.ModelRow(f"{self.model} · {facts.title}{asked}", facts.paper, (), tiles)
        bars = figure.ClassBars(self.model, self.probabilities, COLOURS[STUDENT])
        notes = (facts.reading_note,)
        return figure.draw(figure.FigureSpec(self.image, (row,), self.classes, (bars,), self.target, notes, ""),
                           image=self.original)

    def __repr__(self) -> str:
        stages = ", ".join(map(_label, self.maps))
        return (f"<{EXPLAINERS[self.explainer].info.title} of {self.model} for {self.classes[self.target]!r}, "
                f"predicted {self.classes[self.predicted]!r}: {stages}>")


def _label(one: HeatMap) -> str:
    """The stage by its name in the model, and the map's grid."""
    return f"{one.name} · {one.grid}" if one.lies_on == "stage" else one.label


def explain(model: nn.Module | Run, image: ImageLike, explainer: str = "grad-cam", target: int | str | None = None,
            stage: int | str | None = DEFAULT_STAGE) -> HeatMaps:
    """Heat maps of one image by one model.

    model: a torch module, which is wrapped as `kd.wrap` does by default; what `kd.wrap` returned; or a run, such as
    `kd.distill(…).student`. image: a path, a PIL image or an array (`ImageLike`). explainer: a name in
    `kd.explainers.EXPLAINERS`, such as grad-cam, sensitivity, layer-cam, score-cam, integrated-gradients, occlusion or
    stage-maps. target: a class's number or name, by default the predicted one. stage: its number from 0, or from the
    end where negative, or its name; by default the explainer's own (the last; of sensitivity that with a reduction of
    4); None for all. Nothing of the model is changed. Raises UsageError.
    """
    EXPLAINERS[explainer]
    subject, label, classes, size = _opened(model)
    if explainer_for(explainer, subject) != explainer:
        raise UsageError(f"{label} has no {explainer}: only a student that was distilled with medtex has one. "
                         "Explain it by another explainer, such as grad-cam.")
    on_stage = EXPLAINERS[explainer].info.grid == "stage"
    numbers = _numbers(subject, explainer, stage) if on_stage else [len(subject.stages) - 1]
    pixels = as_image(image, size)
    tensor = to_tensor(pixels[None], subject.mean.device)
    with torch.no_grad():
        probabilities = softmax(subject(tensor).logits[0].float().cpu().numpy())
    number = int(probabilities.argmax()) if target is None else class_number(target, classes)
    seen = EXPLAINERS[explainer].at_stages(subject, tensor, torch.tensor([number], device=tensor.device), numbers)
    maps = tuple(_heat_map(explainer, subject, number, found, pixels.shape[0])
                 for number, found in zip(numbers, seen, strict=True))
    return HeatMaps(explainer, label, pixels, number, classes, probabilities, maps, as_original(image))


def _opened(model: nn.Module | Run) -> tuple[Classifier, str, tuple[str, ...], int]:
    """The classifier in eval mode, its name, its classes' names, and the side of its images."""
    if isinstance(model, Run):
        subject = load_model(model)
        return subject.model, model.label, subject.classes, model.spec.image_size
    if not isinstance(model, nn.Module):
        raise UsageError(f"A model must be a torch module, what kd.wrap returns, or a run, not {type(model).__name__}.")
    wrapped = model if isinstance(model, Wrapped) else wrap(model)
    return wrapped, type(wrapped.net).__name__, wrapped.classes, wrapped.size


def _numbers(model: Classifier, explainer: str, stage: int | str | None) -> Sequence[int]:
    """Stages counted from 0. Raises UsageError when the model has none of this number or name."""
    names = [one.name for one in model.stages]
    if stage is None:
        return range(len(names))
    if stage == DEFAULT_STAGE and stage not in names:
        return [EXPLAINERS[explainer].stage_of(model)]
    if isinstance(stage, str):
        if stage not in names:
            raise UsageError(f"There is no stage {stage!r}. This model has {', '.join(names)}.")
        return [names.index(stage)]
    return [stage_number(model, stage)]


def _heat_map(explainer: str, model: Classifier, number: int, found: Maps, size: int) -> HeatMap:
    return HeatMap(number, model.stages[number].name, found.values[0].cpu().numpy(), found.scaled()[0].cpu().numpy(),
                   bool(found.blank[0]), found.signed, EXPLAINERS[explainer].info.grid,
                   EXPLAINERS[explainer].placement(model, number, size))
