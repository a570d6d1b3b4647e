"""Theoretical receptive fields of a stage's units, computed from gradients.

The network is linearised first, so that the gradient is zero exactly where there is no path.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from kd.models.base import Classifier
from kd.models.factory import Architecture, architecture, assemble, meta_model
from kd.models.linearised import LinearisedForward
from kd.models.timm_info import FORWARD_ERRORS
from kd.spec import RunSpec
from kd.torch_utils.flops import FlopCounter, meta_image
from kd.torch_utils.rng import isolated_rng


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows top..bottom and columns left..right, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int


def receptive_fields(spec: RunSpec) -> list[int]:
    """Receptive field of every stage: side in pixels of the working size, at most all of them; 0 where it cannot be
    told.

    Raises UsageError when the model is unknown or cannot take images of this size.
    """
    return list(_sides(_seen_alike(architecture(spec, classes=2))))


def receptive_field_of(spec: RunSpec, stage: int, unit: tuple[int, int]) -> Box:
    """Receptive field of a unit (row, column) of a stage's grid, in an image of `spec.image_size`; empty where it
    cannot be told.

    Raises UsageError as `receptive_fields` does, and IndexError when the stage or the unit does not exist.
    """
    return _field(_seen_alike(architecture(spec, classes=2)), stage, unit)


@lru_cache(maxsize=64)
def _sides(what: Architecture) -> tuple[int, ...]:
    meta_model(what)  # raises UsageError for a wrong image size
    try:
        images, maps = _run(what)
    except FORWARD_ERRORS:  # an operation that has no linear form
        return (0,) * len(meta_model(what).stages)
    grown = what.image_size / what.input_size
    found = [_side(images, features, stage.reduction * grown)
             for features, stage in zip(maps, meta_model(what).stages, strict=True)]
    # A stage's field contains that of the stage before it; a grid without padding can be too small to show that.
    return tuple(accumulate(found, max))


def _side(images: Tensor, features: Tensor, step: float) -> int:
    """Side of the field, from the first unit's far end and the last unit's near end, which the rim does not cut. step:
    from unit to unit, in pixels of the image."""
    last = features.shape[-1] - 1
    far, near = (_box(images, features, unit, more=True) for unit in ((0, 0), (last, last)))
    return min(images.shape[-1], round(far.right - near.left + last * step)) if far.right and near.right else 0


@lru_cache(maxsize=256)
def _field(what: Architecture, stage: int, unit: tuple[int, int]) -> Box:
    try:
        images, maps = _run(what)
    except FORWARD_ERRORS:
        return Box(0, 0, 0, 0)
    return _box(images, maps[stage], unit, more=False)


def _seen_alike(what: Architecture) -> Architecture:
    """The architecture with fields that do not affect receptive fields at fixed values, so that more of them share a
    cache entry. A masked student's fields are in the masked image."""
    return replace(what, classes=2, normalisation="half", mask_net=None)


def _run(what: Architecture) -> tuple[Tensor, tuple[Tensor, ...]]:
    images = torch.full((1, 3, what.image_size, what.image_size), 0.9, dtype=torch.float64, requires_grad=True)
    model = _linear(what)
    with torch.enable_grad(), LinearisedForward():
        return images, model.forward_stages(model.prepare(images))


@lru_cache(maxsize=1)
def _linear(what: Architecture) -> Classifier:
    """The model in double precision with positive weights, so that no two paths cancel."""
    model = assemble(what, seed=0).eval().requires_grad_(False)
    read = _read_by_stages(what)
    with isolated_rng(0):
        for name, parameter in model.named_parameters():
            if name not in read:
                parameter.data = torch.empty(0)  # a head can be most of the model: do not double it
            elif parameter.ndim > 1:
                parameter.uniform_(0.5, 1.5).div_(parameter[0].numel())
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    return model.double()


def _read_by_stages(what: Architecture) -> set[str]:
    with torch.device("meta"):
        model = assemble(what, seed=0, device="meta").eval()  # LeViT reads some weights in the first forward pass alone
    with torch.no_grad(), FlopCounter(model) as counter:
        model.forward_stages(model.prepare(meta_image(what.image_size)))
    return counter.weights_used


def _box(images: Tensor, features: Tensor, unit: tuple[int, int], more: bool) -> Box:
    """Empty where no path leads to the unit. more: whether the graph is needed again."""
    row, column = unit
    if row < 0 or column < 0:
        raise IndexError(f"unit {unit} is outside the grid")
    with torch.enable_grad():
        [gradient] = torch.autograd.grad(features[0, :, row, column].sum(), images, retain_graph=more)
    seen = (gradient[0] != 0).any(dim=0)
    rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
    if not len(rows):
        return Box(0, 0, 0, 0)
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
