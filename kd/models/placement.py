"""Where the units of a stage look: the centres of their receptive fields, for any network, without its weights.

A unit's centre is the centroid of all paths from the image to it, each counted alike. It is read off a linearised
forward pass in which every convolution averages and every padding continues the features as a straight line, so that
the rim of the image, where units see paddings, does not move the centres of the units.
"""

import math
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from kd.models.base import Classifier
from kd.models.factory import architecture, meta_model
from kd.models.linearised import MAXIMA, PRODUCTS, LinearisedForward
from kd.models.timm_info import FORWARD_ERRORS
from kd.placement import Placement
from kd.spec import RunSpec

_ATTENTION = frozenset({"matmul", "__matmul__", "bmm", "scaled_dot_product_attention"})

CANVASES = (2, 4, 8)  # sides in strides of the last stage
_known: "WeakKeyDictionary[Classifier, dict[int, tuple[Placement | None, ...]]]" = WeakKeyDictionary()
_lock = Lock()


def placements(model: Classifier, size: int) -> tuple[Placement | None, ...]:
    """Placement of every stage's grid for images of `size` pixels a side (which the model may downsample first).

    None for a network for which it cannot be computed, such as one with operations that no convolution is. TensorFlow's
    paddings depend on the size, others do not. Computed once per model and size. Thread-safe.
    """
    model = model.network
    with _lock:
        found = _known.setdefault(model, {})
    if size not in found:
        try:
            found[size] = _placements(model, min(model.input_size or size, size))
        except FORWARD_ERRORS:
            found[size] = (None,) * len(model.stages)
    return found[size]


def placements_of(spec: RunSpec) -> tuple[Placement | None, ...]:
    """Placement of every stage's grid of a run's model, for images of `spec.image_size`.

    Raises UsageError when the model is unknown or cannot take images of this size.
    """
    return placements(meta_model(architecture(spec, classes=2)), spec.image_size)


def _placements(model: Classifier, size: int) -> tuple[Placement | None, ...]:
    """Of a network's input of this size, by a canvas on which every stage has at least two units and all paddings are
    the same: these depend on the remainders by the strides alone. A network without paddings needs a larger one."""
    period = 1 << (max(stage.reduction for stage in model.stages) - 1).bit_length()
    own = model.mean.device  # on which some operations meet weights; there are no doubles on mps, and no values on meta
    device = torch.device("cpu") if own.type in ("meta", "mps") else own
    for times in CANVASES:
        side = size % period + times * period
        images = torch.full((1, 3, side, side), 0.9, dtype=torch.float64, device=device, requires_grad=True)
        try:
            with torch.inference_mode(False), torch.enable_grad(), _Centred():
                stages = model.forward_stages(images)
        except FORWARD_ERRORS:
            if times == CANVASES[-1]:
                raise
            continue
        if times == CANVASES[-1] or all(min(features.shape[2:]) > 1 for features in stages):
            break
    return tuple(_placement(images, features, side / size) for features in stages)


def _placement(images: Tensor, features: Tensor, zoom: float) -> Placement | None:
    """zoom: side of the canvas as a share of the image's."""
    height, width = features.shape[2:]
    (top, left), (bottom, right) = _centre(images, features, 0, 0), _centre(images, features, height - 1, width - 1)
    if not math.isfinite(top + left + bottom + right) or min(bottom - top, right - left) <= 0:
        return None
    return Placement((top * zoom, left * zoom),
                     ((bottom - top) * zoom / max(height - 1, 1), (right - left) * zoom / max(width - 1, 1)))


def _centre(images: Tensor, features: Tensor, row: int, column: int) -> tuple[float, float]:
    """Centroid of the paths to a unit (down, across), as shares of the canvas."""
    [gradient] = torch.autograd.grad(features[0, :, row, column].sum(), images, retain_graph=True)
    mass = gradient[0].sum(dim=0).cpu()
    at = (torch.arange(mass.shape[0], dtype=mass.dtype) + 0.5) / mass.shape[0]
    total = mass.sum()
    return float(mass.sum(dim=1) @ at / total), float(mass.sum(dim=0) @ at / total)


class _Centred(LinearisedForward):
    """Function mode in which weights are equal and paddings continue the features."""

    def compute(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == "conv2d":
            return _convolved(*args, **kwargs)
        if name == "linear":
            return args[0].mean(dim=-1, keepdim=True).expand(*args[0].shape[:-1], args[1].shape[0])
        if name == "pad":
            return _padded(args[0], args[1] if len(args) > 1 else kwargs["pad"])
        if name in MAXIMA or name == "avg_pool2d":
            return _pooled(*args, **_without(kwargs, "count_include_pad", "divisor_override", "return_indices"))
        if name == "addcmul":
            return max(args, key=Tensor.numel)  # a gain and a bias per channel
        if name in PRODUCTS and len(args) == 2 and all(isinstance(one, Tensor) for one in args):
            larger, smaller = sorted(args, key=Tensor.numel, reverse=True)
            if larger.requires_grad and smaller.numel() < larger.numel():
                return larger  # a weight or gate per channel moves nothing
        result = super().compute(name, func, args, kwargs)
        if name in _ATTENTION and args[0].requires_grad and args[1].requires_grad:
            return result.detach()  # it looks everywhere
        return result


def _without(kwargs: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in names}


def _convolved(features: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
               dilation: Any = 1, groups: int = 1) -> Tensor:
    """The mean over every window and group of channels."""
    kernel, spread = weight.shape[2:], _pair(dilation)
    if isinstance(padding, str):
        whole = [far * (k - 1) if padding == "same" else 0 for far, k in zip(spread, kernel, strict=True)]
        rim = [end for total in reversed(whole) for end in (total // 2, total - total // 2)]
    else:
        rows, columns = _pair(padding)
        rim = [columns, columns, rows, rows]
    equal = torch.full(weight.shape, 1 / weight[0].numel(), dtype=features.dtype, device=features.device)
    return F.conv2d(_padded(features, rim), equal, None, stride, 0, dilation, groups)


def _pooled(features: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
            ceil_mode: bool = False, *_: Any) -> Tensor:
    """The mean over every window. An average has no dilation; its arguments are in another order."""
    if isinstance(dilation, bool):
        dilation, ceil_mode = 1, dilation
    kernel, step, rim = _pair(kernel_size), _pair(stride or kernel_size), _pair(padding)
    more = [_missing(features.shape[2 + axis] + 2 * rim[axis] - kernel[axis], step[axis]) * ceil_mode
            for axis in (0, 1)]
    grown = _padded(features, [rim[1], rim[1] + more[1], rim[0], rim[0] + more[0]])
    return F.avg_pool2d(grown, kernel, step)


def _missing(length: int, step: int) -> int:
    """Places that are missing behind the last whole step."""
    return -length % step


def _padded(features: Tensor, rim: Sequence[int]) -> Tensor:
    """Features continued at their ends, as `F.pad` takes the widths (from the last axis on); negative ones crop."""
    for number in range(len(rim) // 2):
        axis, (before, after) = features.ndim - 1 - number, rim[2 * number:2 * number + 2]
        features = _continued(features, axis, before, after)
    return features


def _continued(features: Tensor, axis: int, before: int, after: int) -> Tensor:
    """An axis continued along the straight line through its two ends."""
    length = features.shape[axis]
    if before < 0 or after < 0:
        features = features.narrow(axis, max(-before, 0), length - max(-before, 0) - max(-after, 0))
        length = features.shape[axis]
    first, last = features.narrow(axis, 0, 1), features.narrow(axis, length - 1, 1)
    slope = (last - first) / max(length - 1, 1)
    parts = [first - slope * far for far in range(max(before, 0), 0, -1)]
    parts += [features, *(last + slope * far for far in range(1, max(after, 0) + 1))]
    return torch.cat(parts, dim=axis) if len(parts) > 1 else features


def _pair(value: Any) -> tuple[int, int]:
    one, other = (value, value) if isinstance(value, int) else value * 2 if len(value) == 1 else value
    return int(one), int(other)
