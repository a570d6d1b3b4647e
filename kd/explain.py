"""Explaining one image by one run: where it looked, how sure it was, and what the answer cost."""

import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd import figure, metrics
from kd.batches import to_tensor
from kd.explainers import EXPLAINERS, Maps
from kd.explainers.base import stage_number
from kd.models import cost
from kd.pool import ModelPool, Subject, open_subject
from kd.runs import Run, write_bytes, write_json
from kd.timing import Timing, measure_in_turn, summarise


@dataclass(frozen=True, eq=False)
class HeatMap:
    """One map of one stage: raw values and values in 0..1, both float32 [H, W] at the stage's own grid."""

    stage: int
    name: str
    values: NDArray[np.float32]
    scaled: NDArray[np.float32]
    blank: bool

    @property
    def grid(self) -> str:
        return f"{self.values.shape[0]}×{self.values.shape[1]}"

    @property
    def label(self) -> str:
        return f"layer {self.stage + 1} · {self.grid}"

    def to_json(self) -> dict[str, Any]:
        """Facts only; the values are in the npz file."""
        finite = bool(np.isfinite(self.values).all())
        return {"stage": self.stage, "name": self.name, "grid": list(self.values.shape), "blank": self.blank,
                "low": float(self.values.min()) if finite else None,
                "high": float(self.values.max()) if finite else None}


@dataclass(frozen=True, eq=False)
class Explanation:
    """One explainer's maps of one image by one run.

    image: uint8 [S, S, 3]. target: class number. probabilities: [K]. timing: of the whole explanation; forward: of
    the model's plain forward pass, taken in turn with it; ratio: median over turns of the one by the other.
    flops: of one forward pass. protocol: how the times were taken.
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

    def to_json(self) -> dict[str, Any]:
        """Plain, finite values."""
        facts = EXPLAINERS[self.explainer].facts
        return {"run": self.run.id, "explainer": self.explainer, "class_specific": facts.class_specific,
                "target": self.classes[self.target], "predicted": self.classes[self.predicted],
                "probabilities": _finite(self.classes, self.probabilities),
                "maps": [one.to_json() for one in self.maps], "timing": self.timing.to_json(),
                "forward": self.forward.to_json(), "ratio": self.ratio, "parameters": self.parameters,
                "flops": self.flops, "protocol": self.protocol, "note": self.note}

    def arrays(self) -> dict[str, NDArray]:
        """The raw maps by the name they have in an npz file."""
        return {f"{self.explainer}_layer{one.stage + 1:02d}": one.values for one in self.maps}

    def save(self, folder: Path) -> dict[str, Path]:
        """Write `explanation.png`, `maps.npz` (raw maps and the image) and, last, `explanation.json`."""
        paths = {name: folder / name for name in ("explanation.png", "maps.npz", "explanation.json")}
        write_bytes(paths["explanation.png"], figure.draw(self.sheet()))
        write_bytes(paths["maps.npz"], pack({"image": self.image, **self.arrays()}))
        write_json(paths["explanation.json"], self.to_json())
        return paths

    def sheet(self) -> figure.Sheet:
        """What the figure shows."""
        facts = EXPLAINERS[self.explainer].facts
        asked = f" for “{self.classes[self.target]}”" if facts.class_specific else ""
        row = figure.Row(f"{self.run.spec.model_label} · {facts.title}{asked}", self.cost_line(), None, self.tiles())
        bars = figure.Bars(self.run.spec.model_label, self.probabilities, figure.COLORS["student"])
        return figure.Sheet(self.image, (row,), self.classes, (bars,), self.target,
                            (facts.seeing, *filter(None, [self.note])), protocol_line(self.protocol))

    def tiles(self) -> tuple[figure.Tile, ...]:
        return tuple(figure.Tile(one.label, one.scaled, one.blank) for one in self.maps)

    def cost_line(self) -> str:
        """Size, FLOPs and time in one line."""
        return (f"{_short(self.parameters)} parameters · {_short(self.flops)} FLOPs · explained in {self.timing}, "
                f"{self.ratio:.2f} × its forward pass")


@dataclass(frozen=True)
class Question:
    """What is asked of a subject: which explainer, for which class, at which stages (None: all)."""

    subject: Subject
    explainer: str
    target: int
    stages: Sequence[int] | None = (-1,)

    def numbers(self) -> list[int]:
        """The stages counted from 0. Raises UsageError when the model lacks one."""
        model = self.subject.model
        return [stage_number(model, stage) for stage in (range(len(model.stages)) if self.stages is None
                                                         else self.stages)]


def explain(run: Run, image: NDArray[np.uint8], explainer: str = "grad-cam", target: int | str | None = None,
            stage: int | None = -1, repeats: int = 5, pool: ModelPool | None = None) -> Explanation:
    """Explain a picture [S, S, 3] by a run's best weights.

    target: class number or name, by default the predicted one. stage: counts from 0, or from the end where negative;
    None explains all stages from one pass. repeats: how often forward and explanation are timed, at least 1.
    Raises UsageError for an unknown explainer, class or stage, and for a run without weights.
    """
    EXPLAINERS[explainer]
    subject = open_subject(run, pool)
    number = (int(subject.probabilities(image).argmax()) if target is None else subject.class_number(target))
    return explain_together([Question(subject, explainer, number, None if stage is None else (stage,))],
                            image, repeats)[0]


def explain_together(questions: Sequence[Question], image: NDArray[np.uint8], repeats: int = 5) -> list[Explanation]:
    """Answer all questions about one picture, every forward pass and explanation timed in turn with all others."""
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    trials = [_Trial(question, image) for question in questions]
    seconds = measure_in_turn([call for trial in trials for call in (trial.forward, trial.explain)], repeats, warmup=1)
    return [trial.answer(*pair) for trial, pair in zip(trials, zip(seconds[::2], seconds[1::2], strict=True),
                                                       strict=True)]


class _Trial:
    """One question under the clock. Results leave the device inside the timed calls, so nothing is still pending."""

    def __init__(self, question: Question, image: NDArray[np.uint8]) -> None:
        self.question, self.image = question, image
        self.model, device = question.subject.model, question.subject.model.mean.device
        self.images = to_tensor(image[None], device)
        self.targets = torch.tensor([question.target], device=device)
        self.numbers = question.numbers()
        self.explainer = EXPLAINERS[question.explainer]
        self.logits = torch.empty(0)
        self.maps: list[Maps] = []

    def forward(self) -> None:
        with torch.no_grad():
            self.logits = self.model(self.images).logits.float().cpu()

    def explain(self) -> None:
        seen = self.explainer.at_stages(self.model, self.images, self.targets, self.numbers)
        self.maps = [Maps(maps.values.cpu()) for maps in seen]

    def answer(self, forward: list[float], explained: list[float]) -> Explanation:
        subject = self.question.subject
        ratio = statistics.median(mine / plain for mine, plain in zip(explained, forward, strict=True))
        parameters, flops = _price(subject, self.image.shape[0])
        return Explanation(
            subject.run, self.question.explainer, self.image, self.question.target, subject.classes,
            metrics.softmax(self.logits[0].numpy()), tuple(map(self._heat_map, self.numbers, self.maps)),
            summarise(explained), summarise(forward), ratio, parameters, flops, self._protocol(), subject.note)

    def _heat_map(self, number: int, maps: Maps) -> HeatMap:
        return HeatMap(number, self.model.stages[number].name, maps.values[0].numpy(), maps.scaled()[0].numpy(),
                       bool(maps.blank[0]))

    def _protocol(self) -> dict[str, Any]:
        return {"device": str(self.model.mean.device), "threads": torch.get_num_threads(), "batch": 1,
                "image_size": self.image.shape[0], "torch": torch.__version__}


def _price(subject: Subject, size: int) -> tuple[int, int]:
    """Parameters and FLOPs of one forward pass at this picture size."""
    spec, summary = subject.run.spec, subject.run.summary or {}
    if spec.image_size == size and "flops" in summary:
        return summary["parameters"], summary["flops"]
    price = cost.cost(replace(spec, image_size=size), len(subject.classes))
    return price.parameters, price.flops


def _finite(classes: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    """Class name to probability; None where a diverged model answers with nan."""
    return {name: float(value) if np.isfinite(value) else None for name, value in zip(classes, values, strict=True)}


def protocol_line(protocol: dict[str, Any]) -> str:
    """How the times were taken, in one line."""
    threads = f"{protocol['threads']} thread{'s' if protocol['threads'] != 1 else ''}"
    return (f"Times: one {protocol['image_size']}-pixel picture at a time on {protocol['device']} with {threads}, "
            f"after one uncounted turn; explanations and forward passes take turns. torch {protocol['torch']}.")


def pack(arrays: dict[str, Any]) -> bytes:
    """An npz file's content."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _short(count: float) -> str:
    """1234567 as 1.2 M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count:g}"
