"""A model read stage by stage on one picture: from one forward pass, and one backward for what asks about a class."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.explainers.base import ExplainerInfo, Maps
from kd.inspection import figure, linear_probes
from kd.inspection.explain import HeatMap, pack, protocol_line
from kd.inspection.linear_probes import LinearProbes
from kd.inspection.model_pool import LoadedModel, ModelPool, load_model
from kd.metrics import classification
from kd.models.base import Classifier
from kd.models.receptive_field import Box, receptive_field_of
from kd.observation import stage_map
from kd.roles import COLOURS, STUDENT
from kd.store.files import write_bytes, write_json
from kd.store.runs import Run
from kd.timing import Timing, measure_in_turn, summarise

LAYER_PLOTS = {
    "stage": ExplainerInfo(
        "Stage map", "Jiang 2025 (KD-FMV, AAAI-25), arXiv 2502.15959", False,
        "Bright where the stage responds strongly on average over its channels, to anything: no class is asked about."),
    "weighted": ExplainerInfo(
        "Class-weighted map", "Draelos & Carin 2020 (HiResCAM), arXiv 2011.08891, signed", True,
        "Bright where the stage's features raise the target class's score; where they lower it, the value is below 0."),
    "decision": ExplainerInfo(
        "The decision as it forms", "Alain & Bengio 2016, arXiv 1610.01644", False,
        "How likely each class is to a linear read-out of this stage alone, for all classes at once."),
    "channels": ExplainerInfo(
        "Channels that carry the decision", "Shrikumar 2016 (gradient × input), arXiv 1605.01713", True,
        "The channels that add most to the target class's score, and where each of them responds."),
    "field": ExplainerInfo(
        "Receptive field", "Luo 2016, arXiv 1701.04128", True,
        "All the pixels that could matter to the place that speaks most for the target class in this stage; "
        "of an explained student, in the picture behind its mask, which itself is drawn from a wider view."),
}
"""What each view shows, from which paper, and whether another target class gives another picture."""


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel of a stage. contribution: what it adds to the target's logit. map: its features [H, W]."""

    number: int
    contribution: float
    map: HeatMap


@dataclass(frozen=True, eq=False)
class StageResult:
    """One stage on one picture.

    stage_map: the channel average. weighted: `Σ_c ∂y/∂F_c ⊙ F_c`, signed in `values`; `scaled` shows what speaks for
    the class, and `blank` says that nothing does. Where the gradient is the same at every place, as it is at the last
    stage in front of global average pooling, this is Grad-CAM before its ReLU; earlier, Grad-CAM averages the gradient
    over places first, and mostly cancels.
    contributions: float32 [C], the weighted map's share of each channel; both sum to the same. channels: the largest,
    first one first. peak: (row, column) where the weighted map is greatest, and field: the pixels that unit can see;
    None where the map is blank. probabilities: [K] by the stage's read-out, None where the run has none.
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
    """All stages of one run on one picture, for one target class.

    image: uint8 [S, S, 3]. target: class number. logits, probabilities: [K], the model's own. bias: the target's, where
    the last stage's contributions and it sum to the target's logit (a head of global average pooling + linear layer),
    else None. timing: of everything but the receptive fields; forward: of the plain forward pass, taken in turn with
    it; ratio: median over turns. accuracies: `readout.summary` where the run has read-outs, else None.
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
    def predicted(self) -> int:
        return int(self.logits.argmax())

    @property
    def decision(self) -> NDArray[np.float64] | None:
        """Class probabilities [S + 1, K]: after each stage by its read-out, then the model's own. None without."""
        rows = [view.probabilities for view in self.stages if view.probabilities is not None]
        return np.stack([*rows, self.probabilities]) if rows else None

    @property
    def decided_at(self) -> int | None:
        """The stage from which on every read-out answers as the model does; None where not even the last one does."""
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

    def save(self, folder: Path) -> dict[str, Path]:
        """Write `hierarchy.png`, `maps.npz` (raw maps and the image) and, last, `hierarchy.json`."""
        paths = {name: folder / name for name in ("hierarchy.png", "maps.npz", "hierarchy.json")}
        write_bytes(paths["hierarchy.png"], self.picture())
        write_bytes(paths["maps.npz"], pack({"image": self.image, **self.arrays()}))
        write_json(paths["hierarchy.json"], self.to_json())
        return paths

    def picture(self, opacity: float = figure.OPACITY, colormap: str = figure.COLORMAP) -> bytes:
        """The figure as PNG."""
        return figure.draw(self.figure_spec(), opacity, colormap)

    def figure_spec(self) -> figure.FigureSpec:
        """What the figure shows: stage maps, class-weighted maps, and the channels of the last stage."""
        label, asked, last = self.run.spec.model_label, f"“{self.classes[self.target]}”", self.stages[-1]
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
                f"{label} · channels of its last stage that carry {asked}",
                LAYER_PLOTS["channels"].paper,
                (),
                tuple(
                    figure.HeatmapTile(f"{one.number} · adds {one.contribution:.2f}", one.map.scaled, one.map.blank)
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
        """The decision as it forms, in one sentence."""
        if self.decision is None:
            return ()
        shares = [f"{100 * row[self.target]:.0f} %" for row in self.decision]
        return (f"“{self.classes[self.target]}” after each layer: {' → '.join(shares[:-1])}; the model: {shares[-1]}.",)


def read_layers(run: Run, image: NDArray[np.uint8], target: int | str | None = None, top: int = 4, repeats: int = 5,
         pool: ModelPool | None = None) -> LayerReport:
    """Read a run's stages on a picture [S, S, 3].

    target: class number or name, by default the predicted one. top: channels to name per stage, at least 1. repeats:
    how often all is timed, at least 1. The read-outs are those that `readout.fit` kept; without, a note says how to get
    them. Raises UsageError for an unknown class and for a run without weights. Any number of threads may ask at once.
    """
    if top < 1 or repeats < 1:
        raise UsageError(f"top and repeats must be at least 1, not {top} and {repeats}.")
    subject, readouts = load_model(run, pool), linear_probes.load(run)
    number = None if target is None else subject.class_number(target)
    turn = _TimedPass(subject, to_tensor(image[None], subject.model.mean.device), number, top, readouts)
    plain, full = measure_in_turn([turn.forward, turn.look], repeats, warmup=1)
    ratio = statistics.median(mine / forward for mine, forward in zip(full, plain, strict=True))
    protocol = {"device": str(subject.model.mean.device), "threads": torch.get_num_threads(), "batch": 1,
                "image_size": image.shape[0], "torch": torch.__version__}
    views = tuple(_located(run, image.shape[0], view) for view in turn.views)
    accuracies = None if readouts is None else readouts.to_json()
    return LayerReport(run, image, subject.classes, turn.target, turn.logits, _bias(subject.model, turn.target), views,
                     summarise(full), summarise(plain), ratio, protocol, accuracies,
                     tuple(filter(None, (subject.note, "" if readouts else _unread(run)))))


@dataclass(eq=False)
class _TimedPass:
    """The work under the clock. Results leave the device inside the timed call, so nothing is still pending."""

    subject: LoadedModel
    images: Tensor
    asked: int | None
    top: int
    readouts: LinearProbes | None

    def forward(self) -> None:
        with torch.no_grad():
            self.subject.model(self.images).logits.float().cpu()

    def look(self) -> None:
        logits, self.target, features, gradients = observe(self.subject.model, self.images, self.asked)
        self.logits = logits.float().cpu().numpy()
        decision = None if self.readouts is None else self.readouts.probabilities([one[None] for one in features])[0]
        names = [stage.name for stage in self.subject.model.stages]
        self.views = [_view(number, name, one, gradient, self.top, None if decision is None else decision[number])
                      for number, (name, one, gradient) in enumerate(zip(names, features, gradients, strict=True))]


def observe(model: Classifier, images: Tensor, target: int | None) -> tuple[Tensor, int, list[Tensor], list[Tensor]]:
    """(logits [K], target, every stage's features and the gradient of the target's logit there, both [C_i, H_i, W_i]).

    From one forward and one backward. images: one picture [1, 3, S, S]. target: None for the predicted class. The graph
    hangs on the picture and `autograd.grad` names its inputs, so frozen models work and nothing of one is changed.
    """
    with torch.enable_grad():
        logits, stages, *_ = model(images.detach().requires_grad_())
        number = int(logits[0].argmax()) if target is None else target
        gradients = torch.autograd.grad(logits[0, number], stages)
    return (logits[0].detach(), number, [one[0].detach() for one in stages],
            [gradient[0] for gradient in gradients])


def _view(number: int, name: str, features: Tensor, gradients: Tensor, top: int,
          probabilities: NDArray[np.float64] | None) -> StageResult:
    """One stage from its features and gradients [C, H, W], all but the receptive field."""
    product = (features * gradients).float()
    contributions = product.sum(dim=(1, 2))
    largest = contributions.nan_to_num(-torch.inf).topk(min(top, len(contributions))).indices.tolist()
    weighted = product.sum(dim=0)
    average, positive, *responses = _heat_maps(number, name, torch.cat(
        [stage_map(features[None]).float(), weighted.relu()[None], features[largest].float()]))
    # Signed values, but shown and called blank by what speaks for the class.
    shown = replace(positive, values=weighted.cpu().numpy())
    added = contributions.cpu().numpy()
    channels = tuple(Channel(channel, float(added[channel]), response)
                     for channel, response in zip(largest, responses, strict=True))
    return StageResult(average, shown, added, channels, _peak(shown), None, probabilities)


def _heat_maps(number: int, name: str, values: Tensor) -> list[HeatMap]:
    """One stage's maps [N, H, W], scaled all at once: for a small model that is most of the time."""
    maps = Maps(values.cpu())
    return [HeatMap(number, name, raw, scaled, blank) for raw, scaled, blank in
            zip(maps.values.numpy(), maps.scaled().numpy(), maps.blank.tolist(), strict=True)]


def _peak(shown: HeatMap) -> tuple[int, int] | None:
    """(row, column) of the greatest value, None where there is nothing to see."""
    return None if shown.blank else divmod(int(shown.values.argmax()), shown.values.shape[1])


def _located(run: Run, side: int, view: StageResult) -> StageResult:
    """The view with the receptive field of its peak on a picture of `side` pixels."""
    if view.peak is None:
        return view
    return replace(view, field=receptive_field_of(replace(run.spec, image_size=side), view.number, view.peak))


def _bias(model: Classifier, target: int) -> float | None:
    if model.pooled_linear is None:
        return None
    return _finite(0.0 if model.pooled_linear.bias is None else float(model.pooled_linear.bias[target]))


def _unread(run: Run) -> str:
    return (f"{run.id} has no read-outs yet, so the decision as it forms is not shown. Compute them first (in a "
            "terminal: the flag --linear-probes).")


def _tile(one: HeatMap) -> figure.HeatmapTile:
    return figure.HeatmapTile(one.label, one.scaled, one.blank)


def _finite(value: float) -> float | None:
    """None where a diverged model answers with nan or infinity."""
    return value if np.isfinite(value) else None


def _named(classes: Sequence[str], values: NDArray[np.float64] | None) -> dict[str, float | None] | None:
    if values is None:
        return None
    return {name: _finite(float(value)) for name, value in zip(classes, values, strict=True)}
