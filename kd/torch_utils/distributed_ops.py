"""Global-batch operations over processes: batch-norm statistics and all-gather with gradient.

Gradients need nothing more: all shares have the same size, so the mean of their gradients, which
DistributedDataParallel takes, is the gradient of the whole batch's mean loss.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from kd.observation import Observation

T = TypeVar("T")


def batch_norm(world: int) -> AbstractContextManager[Any]:
    """A context in which every batch norm in training uses mean and variance of the batch of all `world` processes,
    whatever class of module it is; the modules and their state are unchanged."""
    return _GlobalBatchNorm() if world > 1 else nullcontext()


def all_gather_batch(seen: Observation, outputs: Mapping[str, Tensor],
                     target: Tensor) -> tuple[Observation, dict[str, Tensor], Tensor]:
    """Observation, teacher outputs and labels [B, …] of all processes [W·B, …], for losses that compare images.

    The result carries gradient back to every process's share. Each process then computes the same loss; the sum of the
    W gradients of it that reach a share, and their mean over W processes, make up the gradient of one.
    """
    cams = None if seen.cams is None else all_gather_rows(seen.cams)
    return (Observation(all_gather_rows(seen.logits), tuple(map(all_gather_rows, seen.stages)), cams),
            {name: all_gather_rows(rows) for name, rows in outputs.items()}, all_gather_rows(target))


def all_gather_rows(rows: Tensor) -> Tensor:
    """The rows [B, …] of all processes [W·B, …], in the order of the processes; differentiable, also twice."""
    shares = rows.new_zeros(distributed.get_world_size(), *rows.shape)
    shares[distributed.get_rank()] = rows
    return _sum(shares).flatten(0, 1)


def gather_objects(items: list[T]) -> list[T]:
    """The items of all processes, in the order of the processes; any number of picklable objects from each."""
    shares: list[list[T]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(shares, items)
    return [item for share in shares for item in share]


class _Sum(torch.autograd.Function):
    """Sum over the processes. torch.distributed.nn's is deprecated, and Fabric's gather gives no second derivative."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient)


def _sum(tensor: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(tensor)
    return total


class _GlobalBatchNorm(TorchFunctionMode):
    """Replacement of `F.batch_norm`, which every kind of batch norm calls: torch's, timm's, a projector's."""

    def __torch_function__(self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(images: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
                bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
                eps: float = 1e-5) -> Tensor:
    """`F.batch_norm` of [B, C, …] with the statistics of the batch of all processes."""
    if not training:
        return F.batch_norm(images, running_mean, running_var, weight, bias, False, momentum, eps)
    world = distributed.get_world_size()
    # bfloat16's eight bits are too few for a variance.
    values = images.to(torch.promote_types(images.dtype, torch.float32))
    axes = [0, *range(2, images.ndim)]
    shares = all_gather_rows(torch.stack(torch.var_mean(values, axes, correction=0)).unsqueeze(0))
    means, spread = shares[:, 1], shares[:, 0]
    mean = means.mean(0)
    var = spread.mean(0) + (means - mean).square().mean(0)
    if running_mean is not None and running_var is not None:
        count = world * values.numel() // values.shape[1]
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
    grid = (1, -1, *[1] * (images.ndim - 2))
    scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return torch.addcmul(shift.view(grid), values, scale.view(grid)).to(images.dtype)
