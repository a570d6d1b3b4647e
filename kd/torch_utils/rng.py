"""Random numbers for a block of code, isolated from the global generators of torch and numpy."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

_numpy = threading.Lock()


@contextmanager
def numpy_seeded(seed: int | None = None) -> Iterator[None]:
    """A block for libraries that draw from numpy's global generator: one thread at a time, its state restored after.

    seed: of the generator; None leaves its state as it is, for a library that seeds it.
    """
    with _numpy:
        state = np.random.get_state()
        try:
            if seed is not None:
                np.random.seed(seed)
            yield
        finally:
            np.random.set_state(state)


def isolated_rng(seed: int, device: torch.device | str = "cpu") -> AbstractContextManager[Any]:
    """A context in which every random number that torch draws in this thread comes from a separate generator.

    Forking the global generator would not do: other threads draw from it meanwhile (a page builds a preview while a
    run trains with dropout), and each would get numbers that depend on the other. Here the global generator is neither
    read nor advanced, and the numbers are those of `torch.manual_seed(seed)`. device: where they are drawn; models are
    built on the CPU.
    """
    return _OwnGenerator(torch.Generator(device).manual_seed(seed))


class _OwnGenerator(TorchDispatchMode):
    """Dispatch mode that passes `generator` to every operation that draws random numbers."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or _is_meta(args, kwargs):
            return func(*args, **kwargs)
        if not _takes_generator(func):
            func = getattr(func._overloadpacket, "generator", func)
        return func(*args, **{**kwargs, "generator": self.generator})


def _takes_generator(func: Any) -> bool:
    return any(argument.name == "generator" for argument in func._schema.arguments)


def _is_meta(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the operation is on the meta device, where no numbers are drawn."""
    device = kwargs.get("device")
    return (device is not None and torch.device(device).type == "meta") or bool(
        args and isinstance(args[0], torch.Tensor) and args[0].is_meta)
