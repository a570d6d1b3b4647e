"""FLOPs, weights and memory of a block of torch code, counted without hooks.

torch's own FlopCounterMode attaches hooks to every module of the process, so a count in a page would affect a run that
trains in another thread. This counter covers its own thread only; the formulas are torch's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary


class FlopCounter(TorchDispatchMode):
    """FLOPs of this thread's torch operations in a `with` block, on any device (also meta), backward passes included.

    model: whose weights are counted as well. memory: whether `peak_bytes` is kept.
    flops: so far; a multiply-add is 2, and only convolutions and matrix products count, as in torch.
    parameters: numbers in the weights of `model` used so far, each counted once. weights_used: their names.
    peak_bytes: most bytes of tensors made in the block that were alive at once, those kept for the backward pass too;
    scratch space inside a kernel and what numpy holds are not seen. 0 without `memory`.
    """

    def __init__(self, model: nn.Module | None = None, memory: bool = False) -> None:
        super().__init__()
        self.flops = self.parameters = self.peak_bytes = 0
        self.weights_used: set[str] = set()
        self._memory = memory
        self._weights = {id(weight): name for name, weight in model.named_parameters()} if model else {}
        self._totals: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def totals_at(self, output: Tensor) -> tuple[int, int]:
        """(flops, parameters) when `output`, a tensor made in the block and still alive, had been computed."""
        flops, parameters = self._totals[output]
        return flops, parameters

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        given = _tensors((args, kwargs))
        before = {_storage(value) for value in given} if self._memory else set()
        result = func(*args, **kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        self._count_weights(given)
        made = _tensors(result)
        for value in made:
            self._totals[value] = self.flops, self.parameters
        if self._memory:
            self._weigh([value for value in made if _storage(value) not in before])
        return result

    def _count_weights(self, given: list[Tensor]) -> None:
        for value in given:
            name = self._weights.get(id(value))
            if name is not None and name not in self.weights_used:
                self.weights_used.add(name)
                self.parameters += value.numel()

    def _weigh(self, made: list[Tensor]) -> None:
        self._alive = {key: pair for key, pair in self._alive.items() if not pair[0].expired()}
        for value in made:
            storage = value.untyped_storage()
            self._alive[_storage(value)] = (StorageWeakRef(storage), storage.nbytes())
        self.peak_bytes = max(self.peak_bytes, sum(size for _, size in self._alive.values()))


def meta_image(size: int, batch: int = 1) -> Tensor:
    """Images without values [batch, 3, size, size] on the meta device, for shapes and costs."""
    return torch.zeros(batch, 3, size, size, device="meta")


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.layout == torch.strided else []
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, (list, tuple)) else []
