"""Rounding as on another processor: `pytest -p rounding` shows which tests ask for more than arithmetic promises.

Every convolution and matrix product is scaled by 1 ± 3e-7, by an amount that depends on the row, the channel, the
shape, the memory layout and the thread count, as it does where a kernel treats the rows of one batch differently (AMX)
or is chosen by shape. The same call with the same shapes and threads still gives the same bits.
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch.nn import functional as F

SIZE = 3e-7  # some ten times what was seen: nn.Linear(64, 3) with AMX differs by 6e-8 from row to row


def _scale(out: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    call = hash((out.shape, first.stride(), torch.get_num_threads())) % 97
    channels = out.shape[1] if out.ndim > 1 else 1
    angle = 7.0 * torch.arange(len(out))[:, None] + 3.0 * torch.arange(channels) + call
    scale = (1 + (SIZE if out.dtype == torch.float32 else 0) * torch.sin(angle.double())).to(out.dtype)
    return scale[:, 0] if out.ndim == 1 else scale.view(*scale.shape, *[1] * (out.ndim - 2))


def _perturbed(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @wraps(function)
    def perturbed(*args: object, **kwargs: object) -> torch.Tensor:
        out = function(*args, **kwargs)
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        plain = out.device.type == "cpu" and out.is_floating_point() and out.ndim
        return out * _scale(out, first) if plain else out

    return perturbed


for owner, names in ((F, ("conv2d", "linear")), (torch, ("matmul", "bmm", "einsum")),
                     (torch.Tensor, ("__matmul__", "matmul"))):
    for name in names:
        setattr(owner, name, _perturbed(getattr(owner, name)))
