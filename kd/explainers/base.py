"""Base class of the explainers: maps at a stage's or the image's own grid, and their scaling to 0..1."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kd.errors import UsageError
from kd.models.base import Classifier
from kd.models.placement import placements
from kd.placement import Placement
from kd.progress import ShareCallback, no_share

CHUNK = 16  # images at a time: more are not faster on a CPU, and a DenseNet's maps of 16 take a quarter of a GiB
SEED = 0
# A map whose range is below this share of its size is arithmetic noise around a constant: float32 sums err by 1e-6.
FLAT = 1e-5
DEFAULT_STAGE: Literal["default"] = "default"
StageChoice = int | Literal["default"]
"""A stage from 0, from the end where negative, or the explainer's own default (`Explainer.stage_of`)."""


@dataclass(frozen=True)
class ExplainerInfo:
    """Description of an explainer for forms and pages.

    class_specific: whether the map depends on the target class. reading_note: one sentence on how to read the map.
    cost: of one image and class: instant (at most a few forward passes, computed while a page loads), seconds (tens to
    two hundred) or minutes (more, such as one per channel); the latter two belong on the job queue.
    signed: whether values below 0 are evidence against the class, so that 0 must keep its own colour.
    early_stages: whether it is informative at early stages; Grad-CAM's channel mean cancels there to 75–100 % zeros.
    absolute: whether values are in 0..1 and have a meaning as they are, so that they are shown unscaled.
    grid: of the map: that of a `stage`, or the `picture` or its `superpixels`; for the latter two the stage is ignored
    and the map has the image's size.
    forward_only: whether forward passes are all that it needs: no gradients, no stage whose output is replaced.
    reduction: of the grid of the stage that it explains by default, against the image; None for the last stage.
    """

    title: str
    paper: str
    class_specific: bool
    reading_note: str
    cost: Literal["instant", "seconds", "minutes"] = "instant"
    signed: bool = False
    absolute: bool = False
    early_stages: bool = True
    grid: Literal["stage", "picture", "superpixels"] = "stage"
    reduction: int | None = None
    forward_only: bool = False


@dataclass(frozen=True)
class Maps:
    """Heat maps at their own grid.

    values: float32 [N, H, W] ([N, T, H, W] for T targets per image), detached. signed, absolute: see ExplainerInfo.
    """

    values: Tensor
    signed: bool = False
    absolute: bool = False

    @property
    def blank(self) -> Tensor:
        """Bool [N] or [N, T]: whether the map is constant, all zero or not finite."""
        return _blank(*_range(self.values))

    def scaled(self) -> Tensor:
        """The maps in 0..1; see `scale`."""
        return scale(self.values, self.signed, self.absolute)


def scale(values: Tensor, signed: bool = False, absolute: bool = False) -> Tensor:
    """Maps [..., H, W] scaled to 0..1, each by its own minimum and maximum; signed ones by their greatest magnitude, so
    that 0 becomes 0.5 and both sides keep their proportion; absolute ones unchanged.

    The order is: raw map (after the explainer's own ReLU, if it has one), scaled once here on the native grid, then
    laid on the image (`Explainer.placement`) and never scaled again (the package grad-cam scales a second time after
    upsampling). A blank map becomes zeros, a signed one 0.5 everywhere: scaling it would amplify noise.
    """
    low, high = _range(values)
    blank = _blank(low, high)[..., None, None]
    low, high = low[..., None, None], high[..., None, None]
    if signed:
        most = torch.where(blank, 1.0, torch.maximum(-low, high))
        return torch.where(blank, 0.5, 0.5 + 0.5 * values / most)
    if absolute:
        return torch.where(blank, 0.0, values)
    return torch.where(blank, 0.0, (values - low) / torch.where(blank, 1.0, high - low))


def _range(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.amin(dim=(-2, -1)), values.amax(dim=(-2, -1))


def _blank(low: Tensor, high: Tensor) -> Tensor:
    # Written so that nan, for which every comparison is false, counts as blank.
    varies = high - low > FLAT * torch.maximum(low.abs(), high.abs())
    return ~(varies & torch.isfinite(high - low))


class Explainer(ABC):
    """Base class of all explainers. Holds settings only, so any number of threads may share it and the model.

    The model is left unchanged: no hooks, no mode, no `.grad`.
    """

    info: ClassVar[ExplainerInfo]

    def __call__(self, model: Classifier, images: Tensor, targets: Tensor, stage: StageChoice = DEFAULT_STAGE,
                 progress: ShareCallback | None = None) -> Maps:
        """Maps of one stage (negative counts from the end; ignored where `info.grid` is not `stage`).

        model: in eval mode. images: RGB [N, 3, S, S] in 0..1, on the model's device. targets: class numbers [N], or
        [N, T] for T classes per image. Raises UsageError when the model has no such stage, and whatever `progress`
        raises to stop.
        """
        return self.at_stages(model, images, targets, (stage,), progress)[0]

    def at_stages(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[StageChoice],
                  progress: ShareCallback | None = None) -> tuple[Maps, ...]:
        """Maps of several stages, otherwise as a call; from one pass where the explainer is instant."""
        if model.training:
            raise ValueError("the model is in training mode: explain a private copy in eval mode")
        numbers = [self.stage_of(model, stage) for stage in stages]
        if not model.differentiable and not self.computable_forward(model, numbers):
            raise UsageError(needs_gradients(self.info.title))
        seen = self._maps(model, images, targets, numbers, progress or no_share)
        if progress:
            progress(1.0)
        return tuple(Maps(values.detach().float(), self.info.signed, self.info.absolute) for values in seen)

    def stage_of(self, model: Classifier, stage: StageChoice = DEFAULT_STAGE) -> int:
        """A stage counted from 0. The default one has the reduction closest to `info.reduction`, the finer of two
        equally close ones; without that it is the last. Raises UsageError when the model has no such stage."""
        if stage != DEFAULT_STAGE:
            return stage_number(model, stage)
        wanted = self.info.reduction
        if wanted is None:
            return len(model.stages) - 1
        return min(range(len(model.stages)), key=lambda number: abs(math.log(model.stages[number].reduction / wanted)))

    def placement(self, model: Classifier, stage: StageChoice, size: int) -> Placement | None:
        """Placement in images of `size` pixels a side of a map of this stage; None for a map on the image's own grid,
        and where it cannot be computed for a network, whose maps are then stretched over the image."""
        return placements(model, size)[self.stage_of(model, stage)] if self.info.grid == "stage" else None

    def computable_forward(self, model: Classifier, stages: Sequence[int]) -> bool:
        """Whether its maps of these stages (numbers from 0) follow from the model's forward passes alone."""
        return self.info.forward_only

    @abstractmethod
    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> Sequence[Tensor]:
        """Raw maps [N, H_i, W_i] or [N, T, H_i, W_i] of each stage (numbers from 0)."""


def needs_gradients(what: str) -> str:
    """Why something is not possible with an 8-bit student, and the way out."""
    return (f"{what} needs gradients, or features changed inside of the network, and an 8-bit student's file computes "
            "forward only. Choose stage maps, EigenCAM, Score-CAM, occlusion, KernelSHAP, Grad-CAM of the last stage "
            "where the head is pooling and one linear layer, or the student itself.")


def features_of(model: Classifier, images: Tensor, stages: Sequence[int]) -> list[Tensor]:
    """Features of these stages; of a single one alone, which may be computed without what lies behind it."""
    if len(stages) == 1:
        return [model.features_at(images, stages[0])]
    features = model.forward_stages(model.prepare(images))
    return [features[stage] for stage in stages]


def for_every_target(maps: Tensor, targets: Tensor) -> Tensor:
    """Class-independent maps [N, H, W], repeated for targets [N, T] to [N, T, H, W]."""
    return maps if targets.ndim == 1 else maps[:, None].expand(-1, targets.shape[1], -1, -1)


def stage_number(model: Classifier, stage: object) -> int:
    """`stage` counted from 0. Raises UsageError when the model has no such stage."""
    count = len(model.stages)
    if not isinstance(stage, Integral) or not -count <= int(stage) < count:
        raise UsageError(f"There is no stage {stage!r}: this model has {count} stages, 0 to {count - 1} "
                         f"(or -{count} to -1 from the end).")
    return int(stage) % count


@dataclass
class CountedModel:
    """A model as a function from images [B, 3, S, S] in 0..1 to logits [B, K], which reports as progress the share of
    `total` images that it has processed."""

    model: Classifier
    progress: ShareCallback
    total: int
    done: int = field(default=0, init=False)

    def __call__(self, images: Tensor) -> Tensor:
        logits = self.model(images, stages=False).logits
        self.count(len(images))
        return logits

    def count(self, count: int) -> None:
        """Count `count` more processed images. Raises what `progress` raises."""
        self.done += count
        self.progress(min(1.0, self.done / self.total))


def chunks(count: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices of at most `size` that cover range(count)."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def columns(targets: Tensor) -> Tensor:
    """Targets [N] or [N, T] as [N, T]."""
    return targets if targets.ndim == 2 else targets[:, None]


def like(targets: Tensor, maps: Tensor) -> Tensor:
    """Maps [N, T, H, W] in the shape for targets [N] or [N, T]: [N, H, W] for the former."""
    return maps if targets.ndim == 2 else maps[:, 0]


def mean_colour(image: Tensor) -> Tensor:
    """An empty image [3, S, S]: the image's own mean colour."""
    return image.mean(dim=(1, 2), keepdim=True).expand_as(image)


def without_noise(maps: Tensor, logits: Tensor) -> Tensor:
    """Maps [..., H, W] of differences of logits; zeros where all values are rounding errors."""
    # float32 logits of the same image in two batches differ by a few units in the last place.
    least = 1e-6 * logits.abs().amax().clamp_min(1e-30)
    return torch.where(maps.abs().amax(dim=(-2, -1), keepdim=True) > least, maps, 0.0)
