"""Counting what a forward pass costs, without hooks.

torch's own FlopCounterMode attaches hooks to every module of the process, so a count in a page would reach into the run
that trains in another thread. This one sees its own thread only; the formulas are torch's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Meter(TorchDispatchMode):
    """`with Meter(model) as meter:` runs of `model` in the block are counted, on any device (also meta).

    flops: so far; a multiply-add is 2, and only convolutions and matrix products count, as in torch.
    parameters: weights used so far, each counted once. read: their names.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.flops = 0
        self.parameters = 0
        self.read: set[str] = set()
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._moments: dict[int, tuple[Tensor, int, int]] = {}

    def moment(self, output: Tensor) -> tuple[int, int]:
        """(flops, weights) that had been spent when `output`, a tensor made in the block, was complete."""
        return self._moments[id(output)][1:]

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
        self._note(args, result)
        return result

    def _note(self, args: tuple[Any, ...], result: Any) -> None:
        for value in args:
            name = self._names.get(id(value))
            if name is not None and name not in self.read:
                self.read.add(name)
                self.parameters += value.numel()
        for value in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(value, Tensor):
                # The tensor is kept so that its id stays its own.
                self._moments[id(value)] = (value, self.flops, self.parameters)


def meta_picture(size: int, batch: int = 1) -> Tensor:
    """A picture without numbers [batch, 3, size, size]."""
    return torch.zeros(batch, 3, size, size, device="meta")
