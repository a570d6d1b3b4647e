"""Explanation of one image by one run: heat maps, class probabilities and cost."""

import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.explainers import DEFAULT_STAGE, EXPLAINERS, ExplainerInfo, Maps, StageChoice, explainer_for
from kd.inspection import figure
from kd.inspection.heat_map import HeatMap
from kd.inspection.model_pool import LoadedModel, ModelPool, load_model
from kd.metrics import classification
from kd.metrics.grids import coarse_note
from kd.models import cost
from kd.progress import ShareCallback
from kd.roles import COLOURS, STUDENT
from kd.store.files import write_bytes, write_json
from kd.store.runs import Run
from kd.timing import Timing, measure_in_turn, summarise


@dataclass(frozen=True, eq=False)
class Explanation:
    """Explanation of one image: one explainer's maps of one run.

    image: uint8 [S, S, 3]. target: class number. probabilities: [K]. timing: of the whole explanation; forward: of
    the model's plain forward pass, measured in turn with it; ratio: median over turns of the one by the other.
    flops: of one forward pass. protocol: of the timing.
    """

    run: Run
    explainer: str
    image: NDArray[np.uint8]
    target: int
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    maps: tuple[HeatMap, ...]
    timing: Timing
    forward: Timing
    ratio: float
    parameters: int
    flops: int
    protocol: dict[str, Any]
    note: str

    @property
    def predicted(self) -> int:
        return int(self.probabilities.argmax())

    @property
    def coarse(self) -> str:
        """A sentence on the maps that are too coarse to tell where; mostly empty."""
        return coarse_note((one.place, one.values.shape) for one in self.maps)

    def to_json(self) -> dict[str, Any]:
        """Plain, finite values."""
        facts = EXPLAINERS[self.explainer].info
        return {"run": self.run.id, "explainer": self.explainer, "class_specific": facts.class_specific,
                "target": self.classes[self.target], "predicted": self.classes[self.predicted],
                "probabilities": _finite(self.classes, self.probabilities),
                "maps": [one.to_json() for one in self.maps], "timing": self.timing.to_json(),
                "forward": self.forward.to_json(), "ratio": self.ratio, "parameters": self.parameters,
                "flops": self.flops, "protocol": self.protocol, "note": self.note}

    def arrays(self) -> dict[str, NDArray]:
        """The raw maps by the name they have in an npz file, and where their cells lie: `HeatMap.arrays`."""
        return {f"{self.explainer}_{name}": values for one in self.maps for name, values in one.arrays().items()}

    def save(self, folder: Path, image: NDArray[np.uint8] | None = None) -> dict[str, Path]:
        """Write `explanation.png`, `maps.npz` (raw maps and the image) and, last, `explanation.json`. image: the image
        at another resolution [S, S, 3], to be shown in the figure."""
        paths = {name: folder / name for name in ("explanation.png", "maps.npz", "explanation.json")}
        write_bytes(paths["explanation.png"], figure.draw(self.figure_spec(), image=image))
        write_bytes(paths["maps.npz"], pack({"image": self.image, **self.arrays()}))
        write_json(paths["explanation.json"], self.to_json())
        return paths

    def figure_spec(self) -> figure.FigureSpec:
        """What the figure shows."""
        facts = EXPLAINERS[self.explainer].info
        asked = f" for “{self.classes[self.target]}”" if facts.class_specific else ""
        row = figure.ModelRow(f"{self.run.label} · {facts.title}{asked}", self.cost_line(), (), self.tiles())
        bars = figure.ClassBars(self.run.label, self.probabilities, COLOURS[STUDENT])
        return figure.FigureSpec(self.image, (row,), self.classes, (bars,), self.target,
                            (facts.reading_note, *filter(None, [self.note])), protocol_line(self.protocol))

    def tiles(self) -> tuple[figure.HeatmapTile, ...]:
        return tuple(one.tile() for one in self.maps)

    def cost_line(self) -> str:
        """Size, FLOPs and time in one line."""
        return (f"{_short(self.parameters)} parameters · {_short(self.flops)} FLOPs · explained in {self.timing}, "
                f"{self.ratio:.2f} × its forward pass")


@dataclass(frozen=True)
class ExplainRequest:
    """Request for an explanation: a model, an explainer, a class, and stages (None: all; by default the explainer's).

    An explainer whose map is on the image's grid gives one map, whatever the stages.
    """

    loaded: LoadedModel
    explainer: str
    target: int
    stages: Sequence[StageChoice] | None = (DEFAULT_STAGE,)

    def numbers(self) -> list[int]:
        """The stages counted from 0. Raises UsageError when the model lacks one."""
        model = self.loaded.model
        every = range(len(model.stages)) if self.stages is None else self.stages
        numbers = [EXPLAINERS[self.explainer_used].stage_of(model, stage) for stage in every]
        return numbers if self.info.grid == "stage" else numbers[-1:]

    @property
    def explainer_used(self) -> str:
        """Name of the explainer that is used: Grad-CAM in place of the mask for a model without one."""
        return explainer_for(self.explainer, self.loaded.model)

    @property
    def info(self) -> ExplainerInfo:
        """Description of the explainer that is used."""
        return EXPLAINERS[self.explainer_used].info


def explain(run: Run, image: NDArray[np.uint8], explainer: str = "grad-cam", target: int | str | None = None,
            stage: StageChoice | None = DEFAULT_STAGE, repeats: int = 5, pool: ModelPool | None = None,
            progress: ShareCallback | None = None) -> Explanation:
    """Explanation of an image [S, S, 3] by a run's best weights.

    target: class number or name, by default the predicted one. stage: counts from 0, or from the end where negative;
    by default the explainer's own; None explains all stages from one pass. repeats: of the timing of forward pass and
    explanation, at least 1; an explainer that is not instant runs once. progress: called with the share that is done;
    it may raise to stop.
    Raises UsageError for an unknown explainer, class or stage, for a run without weights, and for the mask of a model
    that has none, for which no replacement is used here.
    """
    EXPLAINERS[explainer]
    subject = load_model(run, pool)
    if (other := explainer_for(explainer, subject.model)) != explainer:
        raise UsageError(f"{run.id} has no {explainer}: only a student that was distilled with a mask network "
                         f"(method medtex) has one. Ask by {other}, or name such a student.")
    number = (int(subject.probabilities(image).argmax()) if target is None else subject.class_number(target))
    return explain_many([ExplainRequest(subject, explainer, number, None if stage is None else (stage,))],
                            image, repeats, progress)[0]


def explain_many(questions: Sequence[ExplainRequest], image: NDArray[np.uint8], repeats: int = 5,
                     progress: ShareCallback | None = None) -> list[Explanation]:
    """Explanations of one image by all requests, every forward pass and explanation timed in turn with all others.

    An explanation names the explainer that was used, which may differ from the requested one
    (`ExplainRequest.explainer_used`).

    Explanations that are not instant run once, after all forward passes. progress: as `explain`'s.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    trials = [_Trial(question, image) for question in questions]
    seconds = iter(measure_in_turn([call for trial in trials for call in trial.calls()], repeats))
    for trial in trials:
        trial.seconds = [next(seconds) for _ in trial.calls()]
    slow = [trial for trial in trials if not trial.instant]
    for number, trial in enumerate(slow):
        began = time.perf_counter()
        trial.explain(_part(progress, number, len(slow)))
        trial.seconds.append([time.perf_counter() - began])
    if progress:
        progress(1.0)
    return [trial.answer() for trial in trials]


def _part(progress: ShareCallback | None, number: int, count: int) -> ShareCallback | None:
    """Progress callback of one of `count` equal parts of the whole."""
    return None if progress is None else lambda share: progress((number + share) / count)


class _Trial:
    """One timed request. Results leave the device inside the timed calls, so nothing is still pending."""

    def __init__(self, question: ExplainRequest, image: NDArray[np.uint8]) -> None:
        self.question, self.image = question, image
        self.model, device = question.loaded.model, question.loaded.model.mean.device
        self.images = to_tensor(image[None], device)
        self.targets = torch.tensor([question.target], device=device)
        self.numbers = question.numbers()
        self.explainer = EXPLAINERS[question.explainer_used]
        self.instant = question.info.cost == "instant"
        self.logits = torch.empty(0)
        self.maps: list[Maps] = []
        self.seconds: list[list[float]] = []

    def calls(self) -> list[Callable[[], None]]:
        """Calls that are timed in turn with those of the others."""
        return [self.forward, self.explain] if self.instant else [self.forward]

    def forward(self) -> None:
        with torch.no_grad():
            self.logits = self.model(self.images).logits.float().cpu()

    def explain(self, progress: ShareCallback | None = None) -> None:
        seen = self.explainer.at_stages(self.model, self.images, self.targets, self.numbers, progress)
        self.maps = [replace(maps, values=maps.values.cpu()) for maps in seen]

    def answer(self) -> Explanation:
        subject = self.question.loaded
        forward, explained = self.seconds
        plain = forward if self.instant else [statistics.median(forward)]
        ratio = statistics.median(seconds / other for seconds, other in zip(explained, plain, strict=True))
        parameters, flops = _price(subject, self.image.shape[0])
        return Explanation(
            subject.run, self.question.explainer_used, self.image, self.question.target, subject.classes,
            classification.softmax(self.logits[0].numpy()), tuple(map(self._heat_map, self.numbers, self.maps)),
            summarise(explained, warmup=int(self.instant)), summarise(forward), ratio, parameters, flops,
            self._protocol(), subject.note)

    def _heat_map(self, number: int, maps: Maps) -> HeatMap:
        return HeatMap(number, self.model.stages[number].name, maps.values[0].numpy(), maps.scaled()[0].numpy(),
                       bool(maps.blank[0]), maps.signed, self.question.info.grid,
                       self.explainer.placement(self.model, number, self.image.shape[0]))

    def _protocol(self) -> dict[str, Any]:
        return {"device": str(self.model.mean.device), "threads": torch.get_num_threads(), "batch": 1,
                "image_size": self.image.shape[0], "torch": torch.__version__}


def _price(subject: LoadedModel, size: int) -> tuple[int, int]:
    """Parameters and FLOPs of one forward pass at this image size."""
    spec, summary = subject.run.spec, subject.run.summary or {}
    if spec.image_size == size and "flops" in summary:
        return summary["parameters"], summary["flops"]
    price = cost.cost(spec.at(size), len(subject.classes))
    return price.parameters, price.flops


def _finite(classes: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    """Class name to probability; None for the nan of a diverged model."""
    return {name: float(value) if np.isfinite(value) else None for name, value in zip(classes, values, strict=True)}


def protocol_line(protocol: dict[str, Any]) -> str:
    """Protocol of the timing in one line."""
    threads = f"{protocol['threads']} thread{'s' if protocol['threads'] != 1 else ''}"
    return (f"Times: one {protocol['image_size']}-pixel image at a time on {protocol['device']} with {threads}, "
            f"after one warm-up round; explanations and forward passes are interleaved. torch {protocol['torch']}.")


def pack(arrays: dict[str, Any]) -> bytes:
    """Content of an npz file with these arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _short(count: float) -> str:
    """A number with a unit prefix: 1234567 as 1.23 M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count:g}"
