"""Cost of a model: parameters and FLOPs, counted on the meta device without computing or downloading anything.

One multiply-add is 2 FLOPs, and only convolutions and matrix products count, as `torch.utils.flop_counter` has it.
"""

import copy
from dataclasses import dataclass
from functools import lru_cache

import torch

from kd.models import receptive_field
from kd.models.base import Classifier
from kd.models.factory import Architecture, architecture, meta_model
from kd.models.masked_student import MaskedStudent
from kd.spec import RunSpec
from kd.torch_utils.flops import FlopCounter, meta_image


@dataclass(frozen=True)
class Cost:
    """Cost of a model. parameters: number of weights. flops: of one forward pass of one image; a multiply-add is 2."""

    parameters: int
    flops: int


SAVING = 20  # the teacher's FLOPs by the student's, from which on distilling has much to save


def flops_note(*ratios: float) -> str:
    """Students' FLOPs beside their teacher's, with a word where they are more than 1/20. ratios: the teacher's by each
    student's."""
    least, most = min(ratios), max(ratios)
    needs = f"The student{' needs' if least == most else 's need'} {_shares(least, most)} the teacher's FLOPs"
    if least >= SAVING:
        return f"{needs}."
    which = "some of them " if most >= SAVING else ""
    found = "so distilling saves nothing" if most <= 1 else f"{which}more than 1/{SAVING}"
    return f"{needs}, {found}. A smaller student, smaller images for it (student_size) or a larger teacher save more."


def _shares(least: float, most: float) -> str:
    """`1/45 of`, `1/26 to 1/4.7 of`, `1.4 times`."""
    if least > 1:
        texts, unit = [f"1/{ratio:.{0 if ratio >= 10 else 1}f}" for ratio in (most, least)], "of"
    else:
        texts, unit = [f"{1 / ratio:.2g}" for ratio in (most, least)], "times"
    return f"{' to '.join(dict.fromkeys(texts))} {unit}"


@dataclass(frozen=True)
class LayerRow:
    """Size and cost of one stage. grid: units per side of its maps. receptive_field: of its middle unit, in pixels.

    parameters, flops: those since the previous stage (the classifier behind the last stage is in no row).
    """

    name: str
    channels: int
    grid: int
    parameters: int
    flops: int
    receptive_field: int


def cost(spec: RunSpec, classes: int) -> Cost:
    """Cost of a spec's model for one image of the working size; downsampling it counts nothing.

    Raises UsageError when the model is unknown or cannot take images of this size.
    """
    return _counted(architecture(spec, classes)).whole


def cost_of(model: Classifier, size: int) -> Cost:
    """Cost of a model for one image of `size` pixels; the model is unchanged."""
    return _count(copy.deepcopy(model).to("meta").eval(), size).whole


def mask_cost(spec: RunSpec, classes: int) -> Cost | None:
    """Cost of a masked student's mask network and of applying its mask, part of `cost`; None for other models. Raises
    UsageError as `cost` does."""
    found = _counted(architecture(spec, classes)).mask_net
    return found if spec.mask_net_depth else None


def layers(spec: RunSpec, classes: int) -> list[LayerRow]:
    """Size and cost per stage of a spec's model; a mask network in front of it is in no row. Raises UsageError as
    `cost` does."""
    what = architecture(spec, classes)
    stages, shares, sides = meta_model(what).stages, _counted(what).shares, receptive_field.receptive_fields(spec)
    return [LayerRow(stage.name, stage.channels, share.grid, share.parameters, share.flops, side)
            for stage, share, side in zip(stages, shares, sides, strict=True)]


@dataclass(frozen=True)
class _Share:
    """Size and cost of one stage."""

    grid: int
    parameters: int
    flops: int


@dataclass(frozen=True)
class _Count:
    """Counted costs. mask_net: before the student sees its image; 0 where there is no mask network."""

    whole: Cost
    mask_net: Cost
    shares: tuple[_Share, ...]


@lru_cache(maxsize=256)
def _counted(what: Architecture) -> _Count:
    return _count(meta_model(what), what.image_size)


def _count(model: Classifier, size: int) -> _Count:
    with torch.no_grad(), FlopCounter(model) as counter:
        maps = model(meta_image(size)).stages
    before = _mask_cost(model, size)
    moments = [(before.flops, before.parameters), *(counter.totals_at(features) for features in maps)]
    shares = [_Share(features.shape[-1], weights - last[1], flops - last[0])
              for features, last, (flops, weights) in zip(maps, moments, moments[1:], strict=False)]
    total = sum(parameter.numel() for parameter in model.parameters())
    return _Count(Cost(total, counter.flops), before, tuple(shares))


def _mask_cost(model: Classifier, size: int) -> Cost:
    if not isinstance(model, MaskedStudent):
        return Cost(0, 0)
    image = meta_image(size)
    with torch.no_grad(), FlopCounter(model) as counter:
        model.apply_mask(image, model.predict_mask(image))
    return Cost(counter.parameters, counter.flops)
