"""Inspection of a model stage by stage on one image, from one forward and one backward pass."""

import statistics
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.explainers.base import Maps, needs_gradients
from kd.inspection import linear_probes
from kd.inspection.heat_map import HeatMap
from kd.inspection.layer_report import Channel, LayerReport, StageResult, _finite
from kd.inspection.linear_probes import LinearProbes
from kd.inspection.model_pool import LoadedModel, ModelPool, load_model
from kd.models.base import Classifier
from kd.models.placement import placements
from kd.models.receptive_field import receptive_field_of
from kd.observation import stage_map
from kd.placement import Placement
from kd.store.runs import Run
from kd.timing import measure_in_turn, summarise


def read_layers(run: Run, image: NDArray[np.uint8], target: int | str | None = None, top: int = 4, repeats: int = 5,
                pool: ModelPool | None = None) -> LayerReport:
    """Report on a run's stages for an image [S, S, 3].

    target: class number or name, by default the predicted one. top: channels to name per stage, at least 1. repeats:
    of the timing, at least 1. The linear probes are those stored by `linear_probes.fit`; without them, a note says how
    to train them. Raises UsageError for an unknown class and for a run without weights. Thread-safe.
    """
    if top < 1 or repeats < 1:
        raise UsageError(f"top and repeats must be at least 1, not {top} and {repeats}.")
    subject, readouts = load_model(run, pool), linear_probes.load(run)
    number = None if target is None else subject.class_number(target)
    if not subject.model.differentiable:
        raise UsageError(needs_gradients("A model read stage by stage"))
    turn = _TimedPass(subject, to_tensor(image[None], subject.model.mean.device), number, top, readouts)
    plain, full = measure_in_turn([turn.forward, turn.inspect], repeats, warmup=1)
    ratio = statistics.median(all_stages / forward for all_stages, forward in zip(full, plain, strict=True))
    protocol = {"device": str(subject.model.mean.device), "threads": torch.get_num_threads(), "batch": 1,
                "image_size": image.shape[0], "torch": torch.__version__}
    views = tuple(_located(run, image.shape[0], view) for view in turn.views)
    accuracies = None if readouts is None else readouts.to_json()
    return LayerReport(run, image, subject.classes, turn.target, turn.logits, _bias(subject.model, turn.target), views,
                       summarise(full), summarise(plain), ratio, protocol, accuracies,
                       tuple(filter(None, (subject.note, "" if readouts else _unread(run)))))


@dataclass(eq=False)
class _TimedPass:
    """Timed computation. Results leave the device inside the timed call, so nothing is still pending."""

    subject: LoadedModel
    images: Tensor
    asked: int | None
    top: int
    readouts: LinearProbes | None

    def __post_init__(self) -> None:
        self.placements = placements(self.subject.model, self.images.shape[-1])

    def forward(self) -> None:
        with torch.no_grad():
            self.subject.model(self.images).logits.float().cpu()

    def inspect(self) -> None:
        logits, self.target, features, gradients = observe(self.subject.model, self.images, self.asked)
        self.logits = logits.float().cpu().numpy()
        decision = None if self.readouts is None else self.readouts.probabilities([one[None] for one in features])[0]
        names = [stage.name for stage in self.subject.model.stages]
        self.views = [_view(number, name, one, gradient, self.top, None if decision is None else decision[number],
                            self.placements[number])
                      for number, (name, one, gradient) in enumerate(zip(names, features, gradients, strict=True))]


def observe(model: Classifier, images: Tensor, target: int | None) -> tuple[Tensor, int, list[Tensor], list[Tensor]]:
    """(logits [K], target, every stage's features and the gradient of the target's logit there, both [C_i, H_i, W_i]).

    From one forward and one backward pass. images: one image [1, 3, S, S]. target: None for the predicted class. The
    graph begins at the image and `autograd.grad` names its inputs, so frozen models work and the model is unchanged.
    """
    with torch.enable_grad():
        logits, stages, *_ = model(images.detach().requires_grad_())
        number = int(logits[0].argmax()) if target is None else target
        gradients = torch.autograd.grad(logits[0, number], stages)
    return (logits[0].detach(), number, [one[0].detach() for one in stages],
            [gradient[0] for gradient in gradients])


def _view(number: int, name: str, features: Tensor, gradients: Tensor, top: int,
          probabilities: NDArray[np.float64] | None, placement: Placement | None) -> StageResult:
    """Result for one stage from its features and gradients [C, H, W], without the receptive field."""
    product = (features * gradients).float()
    contributions = product.sum(dim=(1, 2))
    largest = contributions.nan_to_num(-torch.inf).topk(min(top, len(contributions))).indices.tolist()
    weighted = product.sum(dim=0)
    average, positive, *responses = _heat_maps(number, name, torch.cat(
        [stage_map(features[None]).float(), weighted.relu()[None], features[largest].float()]), placement)
    # Signed values; `scaled` and `blank` are of the positive part, the evidence for the class.
    shown = replace(positive, values=weighted.cpu().numpy())
    added = contributions.cpu().numpy()
    channels = tuple(Channel(channel, float(added[channel]), response)
                     for channel, response in zip(largest, responses, strict=True))
    return StageResult(average, shown, added, channels, _peak(shown), None, probabilities)


def _heat_maps(number: int, name: str, values: Tensor, placement: Placement | None) -> list[HeatMap]:
    """Heat maps of one stage [N, H, W], scaled in one call, because for a small model that takes most of the time."""
    maps = Maps(values.cpu())
    return [HeatMap(number, name, raw, scaled, blank, placement=placement) for raw, scaled, blank in
            zip(maps.values.numpy(), maps.scaled().numpy(), maps.blank.tolist(), strict=True)]


def _peak(shown: HeatMap) -> tuple[int, int] | None:
    """(row, column) of the maximum; None for a blank map."""
    return None if shown.blank else divmod(int(shown.values.argmax()), shown.values.shape[1])


def _located(run: Run, side: int, view: StageResult) -> StageResult:
    """The result with the receptive field of its peak, in an image of `side` pixels."""
    if view.peak is None:
        return view
    field = receptive_field_of(run.spec.at(side), view.number, view.peak)
    return replace(view, field=field if field.bottom else None)  # empty where it cannot be told


def _bias(model: Classifier, target: int) -> float | None:
    if model.pooled_linear is None:
        return None
    return _finite(0.0 if model.pooled_linear.bias is None else float(model.pooled_linear.bias[target]))


def _unread(run: Run) -> str:
    return (f"{run.id} has no linear probes yet. Train them first (in a "
            "terminal: the flag --linear-probes).")
