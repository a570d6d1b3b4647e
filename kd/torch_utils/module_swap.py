"""A network with some of its modules exchanged for one call, while other threads go on using the network itself."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn


def swapped(net: nn.Module, modules: Mapping[str, nn.Module]) -> Any:
    """A copy of `net` in which the modules of these names are others. All other modules and weights are shared, so it
    costs next to nothing, and nothing about `net` changes: it may be in use in other threads."""
    copied = _shallow(net)
    for name, module in modules.items():
        *path, last = name.split(".")
        parent = copied
        for part in path:
            parent._modules[part] = child = _shallow(parent.get_submodule(part))
            parent = child
        parent._modules[last] = module
    return copied


def _shallow(module: nn.Module) -> nn.Module:
    copied = module.__class__.__new__(module.__class__)
    copied.__dict__.update(module.__dict__, _modules=dict(module._modules))
    return copied


class Fixed(nn.Module):
    """Stands for a module and gives `value`. element: the module gives a list, of which `value` is this part; the rest
    is computed."""

    def __init__(self, value: Tensor, module: nn.Module, element: int | None = None) -> None:
        super().__init__()
        self.value, self.module, self.element = value, module, element

    def forward(self, *args: Any) -> Any:
        if self.element is None:
            return self.value
        parts = list(self.module(*args))
        parts[self.element] = self.value
        return parts


class _Recorder(nn.Module):
    """Computes as `module` does, and notes what it gave."""

    def __init__(self, module: nn.Module, note: Callable[[Any], None]) -> None:
        super().__init__()
        self.module, self.note = module, note

    def forward(self, *args: Any) -> Any:
        output = self.module(*args)
        self.note(output)
        return output


class _AllSeen(Exception):
    """Every wanted module has been computed; the rest of the forward pass is not needed."""


def record(net: nn.Module, names: Sequence[str], run: Callable[[Any], Any],
           early: bool = False) -> tuple[Any, list[Any]]:
    """(result of `run(net)`, outputs of the modules of these names, None for those that were not reached).

    run: is given a copy of `net` that records. early: stop once all modules have been computed; the result is None.
    """
    outputs: dict[str, Any] = {}

    def note(name: str, output: Any) -> None:
        outputs[name] = output
        if early and len(outputs) == len(names):
            raise _AllSeen

    recording = swapped(net, {name: _Recorder(net.get_submodule(name), partial(note, name)) for name in names})
    try:
        result = run(recording)
    except _AllSeen:
        result = None
    return result, [outputs.get(name) for name in names]
