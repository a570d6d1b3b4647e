"""Report on a model's stages for one image, with its figure and files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.explainers.base import ExplainerInfo
from kd.inspection import figure
from kd.inspection.explain import pack, protocol_line
from kd.inspection.heat_map import HeatMap
from kd.metrics import classification
from kd.metrics.grids import coarse_note
from kd.models.receptive_field import Box
from kd.roles import COLOURS, STUDENT
from kd.store.files import write_bytes, write_json
from kd.store.runs import Run
from kd.timing import Timing

LAYER_PLOTS = {
    "stage": ExplainerInfo(
        "Stage map", "Jiang 2025 (KD-FMV, AAAI-25), arXiv 2502.15959", False,
        "Bright where the stage responds strongly on average over its channels, whatever the class."),
    "weighted": ExplainerInfo(
        "Class-weighted map", "Draelos & Carin 2020 (HiResCAM), arXiv 2011.08891, signed", True,
        "Bright where the stage's features raise the target class's score; where they lower it, the value is below 0."),
    "decision": ExplainerInfo(
        "Linear probes per stage", "Alain & Bengio 2016, arXiv 1610.01644", False,
        "The probability of each class by a linear classifier on this stage's features alone."),
    "channels": ExplainerInfo(
        "Channels contributing to the class", "Shrikumar 2016 (gradient × input), arXiv 1605.01713", True,
        "The channels that add most to the target class's score, and where each of them responds."),
    "field": ExplainerInfo(
        "Receptive field", "Luo 2016, arXiv 1701.04128", True,
        "All the pixels that can affect the position of this stage that supports the target class most; behind a "
        "mask network, in the masked image (the mask itself depends on more pixels)."),
}
"""How to read each plot of a stage, from which paper it is, and whether it depends on the target class."""


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel of a stage. contribution: to the target's logit. map: its features [H, W]."""

    number: int
    contribution: float
    map: HeatMap


@dataclass(frozen=True, eq=False)
class StageResult:
    """Result for one stage and one image.

    stage_map: the channel average. weighted: `Σ_c ∂y/∂F_c ⊙ F_c`, signed in `values`; `scaled` shows the evidence for
    the class, and `blank` is set where there is none. Where the gradient is the same at every place, as at the last
    stage in front of global average pooling, this is Grad-CAM before its ReLU; at earlier stages, Grad-CAM averages the
    gradient over places first, and mostly cancels.
    contributions: float32 [C], the weighted map summed per channel. channels: those with the largest contributions,
    largest first. peak: (row, column) of the weighted map's maximum, and field: that unit's receptive field; None where
    the map is blank. probabilities: [K] by the stage's linear probe, None where the run has none.
    """

    stage_map: HeatMap
    weighted: HeatMap
    contributions: NDArray[np.float32]
    channels: tuple[Channel, ...]
    peak: tuple[int, int] | None
    field: Box | None
    probabilities: NDArray[np.float64] | None

    @property
    def number(self) -> int:
        return self.stage_map.stage

    @property
    def name(self) -> str:
        return self.stage_map.name

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain, finite values; the maps are in the npz file."""
        carried = [{"channel": one.number, "contribution": _finite(one.contribution)} for one in self.channels]
        return {"stage": self.number, "name": self.name, "stage_map": self.stage_map.to_json(),
                "weighted": self.weighted.to_json(), "contribution": _finite(float(self.contributions.sum())),
                "channels": carried, "peak": list(self.peak) if self.peak else None,
                "field": vars(self.field) if self.field else None,
                "probabilities": _named(classes, self.probabilities)}


@dataclass(frozen=True, eq=False)
class LayerReport:
    """Report on all stages of one run for one image and one target class.

    image: uint8 [S, S, 3]. target: class number. logits, probabilities: [K], the model's own. bias: the target's, where
    the last stage's contributions and it sum to the target's logit (a head of global average pooling + linear layer),
    else None. timing: of everything but the receptive fields; forward: of the plain forward pass, measured in turn with
    it; ratio: median over turns. accuracies: `linear_probes.summary` where the run has linear probes, else None.
    """

    run: Run
    image: NDArray[np.uint8]
    classes: tuple[str, ...]
    target: int
    logits: NDArray[np.float32]
    bias: float | None
    stages: tuple[StageResult, ...]
    timing: Timing
    forward: Timing
    ratio: float
    protocol: dict[str, Any]
    accuracies: dict[str, Any] | None
    notes: tuple[str, ...]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        return classification.softmax(self.logits)

    @property
    def coarse(self) -> str:
        """A sentence on the stages whose maps are too coarse to tell where; mostly empty."""
        return coarse_note((one.stage_map.place, one.stage_map.values.shape) for one in self.stages)

    @property
    def predicted(self) -> int:
        return int(self.logits.argmax())

    @property
    def decision(self) -> NDArray[np.float64] | None:
        """Class probabilities [S + 1, K]: by each stage's linear probe, then the model's own. None without probes."""
        rows = [view.probabilities for view in self.stages if view.probabilities is not None]
        return np.stack([*rows, self.probabilities]) if rows else None

    @property
    def decided_at(self) -> int | None:
        """First stage from which on all linear probes predict the model's class; None where the last one does not."""
        if self.decision is None:
            return None
        same = self.decision.argmax(axis=1) == self.predicted
        return next((stage for stage in range(len(self.stages)) if same[stage:].all()), None)

    def to_json(self) -> dict[str, Any]:
        """Plain, finite values."""
        views = {name: vars(facts) for name, facts in LAYER_PLOTS.items()}
        return {"run": self.run.id, "target": self.classes[self.target], "predicted": self.classes[self.predicted],
                "probabilities": _named(self.classes, self.probabilities), "bias": self.bias, "views": views,
                "stages": [view.to_json(self.classes) for view in self.stages], "timing": self.timing.to_json(),
                "forward": self.forward.to_json(), "ratio": self.ratio, "protocol": self.protocol,
                "readouts": self.accuracies, "notes": list(self.notes)}

    def arrays(self) -> dict[str, NDArray]:
        """The raw maps, contributions and probabilities by the name they have in an npz file."""
        found: dict[str, NDArray] = {}
        for view in self.stages:
            place = f"layer{view.number + 1:02d}"
            found |= {f"stage_{place}": view.stage_map.values, f"weighted_{place}": view.weighted.values,
                      f"contributions_{place}": view.contributions,
                      **{f"channel_{place}_{one.number:04d}": one.map.values for one in view.channels}}
        return found if self.decision is None else {**found, "decision": self.decision}

    def save(self, folder: Path, image: NDArray[np.uint8] | None = None) -> dict[str, Path]:
        """Write `layers.png`, `maps.npz` (raw maps and the image) and, last, `layers.json`. image: as of `picture`."""
        paths = {name: folder / name for name in ("layers.png", "maps.npz", "layers.json")}
        write_bytes(paths["layers.png"], self.picture(image=image))
        write_bytes(paths["maps.npz"], pack({"image": self.image, **self.arrays()}))
        write_json(paths["layers.json"], self.to_json())
        return paths

    def picture(self, opacity: float = figure.OPACITY, colormap: str = figure.COLORMAP,
                image: NDArray[np.uint8] | None = None) -> bytes:
        """The figure as PNG. image: the image at another resolution [S, S, 3], to be shown."""
        return figure.draw(self.figure_spec(), opacity, colormap, image)

    def figure_spec(self) -> figure.FigureSpec:
        """What the figure shows: stage maps, class-weighted maps, and the channels of the last stage."""
        label, asked, last = self.run.label, f"“{self.classes[self.target]}”", self.stages[-1]
        cost = f"all of this in {self.timing}, {self.ratio:.2f} × the forward pass"
        rows = (
            figure.ModelRow(f"{label} · stage maps", cost, (), tuple(_tile(one.stage_map) for one in self.stages)),
            figure.ModelRow(
                f"{label} · class-weighted maps for {asked}",
                LAYER_PLOTS["weighted"].paper,
                (),
                tuple(_tile(one.weighted) for one in self.stages),
            ),
            figure.ModelRow(
                f"{label} · channels of its last stage contributing to {asked}",
                LAYER_PLOTS["channels"].paper,
                (),
                tuple(
                    one.map.tile(f"{one.number} · adds {one.contribution:.2f}")
                    for one in last.channels
                ),
            ),
        )
        bars = figure.ClassBars(label, self.probabilities, COLOURS[STUDENT])
        notes = (
            *(
                f"{LAYER_PLOTS[name].title}: {LAYER_PLOTS[name].reading_note}"
                for name in ("stage", "weighted", "channels")
            ),
            *self._forming(),
            *self.notes,
        )
        return figure.FigureSpec(
            self.image, rows, self.classes, (bars,), self.target, notes, protocol_line(self.protocol)
        )

    def _forming(self) -> tuple[str, ...]:
        """The target's probability after each stage, in one sentence."""
        if self.decision is None:
            return ()
        shares = [f"{100 * row[self.target]:.0f} %" for row in self.decision]
        return (f"“{self.classes[self.target]}” by each stage's linear probe: {' → '.join(shares[:-1])}; "
                f"the model: {shares[-1]}.",)


def _tile(one: HeatMap) -> figure.HeatmapTile:
    return one.tile()


def _finite(value: float) -> float | None:
    """The value for JSON; None for the nan or infinity of a diverged model."""
    return value if np.isfinite(value) else None


def _named(classes: Sequence[str], values: NDArray[np.float64] | None) -> dict[str, float | None] | None:
    if values is None:
        return None
    return {name: _finite(float(value)) for name, value in zip(classes, values, strict=True)}
