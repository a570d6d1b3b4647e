"""What an explainer is: heat maps of a model's stages for images and target classes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kd.errors import UsageError
from kd.models.base import Classifier

# A map whose range is below this share of its size is arithmetic noise around a constant: float32 sums err by 1e-6.
FLAT = 1e-5


@dataclass(frozen=True)
class ExplainerFacts:
    """What the form and the page show of an explainer.

    class_specific: whether another target class gives another map. seeing: one sentence, "what am I seeing?".
    """

    title: str
    paper: str
    class_specific: bool
    seeing: str


@dataclass(frozen=True)
class Maps:
    """Heat maps at the stage's own grid.

    values: float32 [N, H, W] ([N, T, H, W] for T targets per image), detached; signed or not as the explainer says.
    """

    values: Tensor

    @property
    def blank(self) -> Tensor:
        """Bool [N] or [N, T]: the map says nothing, being constant, all zero or not finite."""
        return _blank(*_range(self.values))

    def scaled(self) -> Tensor:
        """The maps in 0..1; see `scale`."""
        return scale(self.values)


def scale(values: Tensor) -> Tensor:
    """Maps [..., H, W] in 0..1, each by its own least and greatest value.

    The order is: raw map (after the explainer's own ReLU, if it has one), scaled once here on the native grid, then
    raised to the picture and never scaled again (the package grad-cam scales a second time after raising). A blank map
    becomes zeros: stretching it would show noise.
    """
    low, high = _range(values)
    blank = _blank(low, high)[..., None, None]
    low, high = low[..., None, None], high[..., None, None]
    return torch.where(blank, 0.0, (values - low) / torch.where(blank, 1.0, high - low))


def _range(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.amin(dim=(-2, -1)), values.amax(dim=(-2, -1))


def _blank(low: Tensor, high: Tensor) -> Tensor:
    # Written so that nan, for which every comparison is false, counts as blank.
    told = high - low > FLAT * torch.maximum(low.abs(), high.abs())
    return ~(told & torch.isfinite(high - low))


class Explainer(ABC):
    """One method of explaining. Holds settings only, so any number of threads may share it and the model.

    Nothing is attached to the model and nothing of it is changed: no hooks, no mode, no `.grad`.
    """

    facts: ClassVar[ExplainerFacts]

    def __call__(self, model: Classifier, images: Tensor, targets: Tensor, stage: int = -1) -> Maps:
        """Maps of one stage (negative counts from the end).

        model: in eval mode. images: RGB [N, 3, S, S] in 0..1, on the model's device. targets: class numbers [N], or
        [N, T] for T classes per image. Raises UsageError when the model has no such stage.
        """
        return self.at_stages(model, images, targets, (stage,))[0]

    def at_stages(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int]) -> tuple[Maps, ...]:
        """As a call, for several stages from one pass."""
        if model.training:
            raise ValueError("the model is in training mode: explain a private copy in eval mode")
        numbers = [stage_number(model, stage) for stage in stages]
        return tuple(Maps(values.detach().float()) for values in self._maps(model, images, targets, numbers))

    @abstractmethod
    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int]) -> Sequence[Tensor]:
        """Raw maps [N, H_i, W_i] or [N, T, H_i, W_i] of each stage (numbers from 0)."""


def stage_number(model: Classifier, stage: int) -> int:
    """`stage` counted from 0. Raises UsageError when the model has no such stage."""
    count = len(model.stages)
    if not -count <= stage < count:
        raise UsageError(f"There is no stage {stage}: this model has {count} stages, 0 to {count - 1} "
                         f"(or -{count} to -1 from the end).")
    return stage % count
