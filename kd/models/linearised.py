"""Linearised forward passes: a network computes a weighted sum over all paths from the image to a unit.

Activations and normalisations become the identity, maxima become averages, and gates over the whole image (squeeze and
excitation) are constants, since they scale features and do not move them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

PASSING = frozenset({
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "elu_", "selu", "celu", "gelu", "silu", "silu_",
    "mish", "hardswish", "hardswish_", "hardtanh", "hardtanh_", "softplus", "prelu", "tanh", "dropout", "dropout_"})
NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"})
AVERAGES = frozenset({"mean", "sum", "norm", "std", "var", "amax", "vector_norm", "linalg_vector_norm", "var_mean",
                      "std_mean", "adaptive_avg_pool2d", "adaptive_max_pool2d"})
MAXIMA = ("max_pool2d", "_max_pool2d")
LARGER = frozenset({"maximum", "minimum", "max", "min"})  # of two tensors: an activation with a learnt threshold
PRODUCTS = frozenset({"mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply", "div", "div_", "__truediv__",
                      "true_divide", "divide", "add", "add_", "__add__", "__radd__", "__iadd__", "sub", "__sub__"})


class LinearisedForward(TorchFunctionMode):
    """Function mode for such a forward pass."""

    def __torch_function__(self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        return self.compute(getattr(func, "__name__", ""), func, args, kwargs or {})

    def compute(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Result of a call of torch's function `func` with this name."""
        if name in PASSING and args:
            return args[0]
        if name in NORMS and args:
            return scaled(args[0])
        if name == "pad" and kwargs.get("value") == -math.inf:
            kwargs = {**kwargs, "value": 0.0}  # the padding of a maximum is no number for an average
        if name in MAXIMA and args:
            return _average(*args, **kwargs)
        pair = len(args) == 2 and all(isinstance(one, Tensor) for one in args)
        if name in LARGER and pair:
            return args[0]
        if name in PRODUCTS and pair:
            args = _constant_gates(*args)
        result = func(*args, **kwargs)
        if name in AVERAGES and args and isinstance(args[0], Tensor) and args[0].ndim in (4, 5):
            return _collapsed(args[0], result)
        return result


def scaled(features: Tensor) -> Tensor:
    """Features divided by one constant: networks that multiply maps with each other would grow without bound."""
    return features / features.detach().abs().amax().clamp_min(1e-30)


def _average(features: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False, return_indices: bool = False) -> Tensor:
    return F.avg_pool2d(features, kernel_size, stride or None, padding, ceil_mode)


def _constant_gates(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Two factors, detached where one has one number per channel for the places of the other."""
    if one.ndim == other.ndim == 4:
        one_each, other_each = (tuple(part.shape[2:]) == (1, 1) for part in (one, other))
        if one_each != other_each:
            return (one.detach(), other) if one_each else (one, other.detach())
    return one, other


def _collapsed(features: Tensor, result: Any) -> Any:
    """The result, detached if it is one number per channel for the whole image."""
    if isinstance(result, tuple):
        return tuple(_collapsed(features, part) for part in result)
    batch, *channels, rows, columns = features.shape
    gates = ((batch, *channels), (batch, *channels, 1, 1), (batch, 1, 1, columns), (batch, channels[0], 1, 1, 1))
    return result.detach() if tuple(result.shape) in gates and rows * columns > 1 else result
