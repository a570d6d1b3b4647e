"""A network in which a module computes something else, for one call: other threads go on using the network itself."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

Relay = tuple[Callable[[Any], Any], Callable[[Any], Any]]


def with_forward(net: nn.Module, name: str, forward: Callable[..., Any]) -> Any:
    """A copy of `net` in which the module of this name computes `forward(its own forward, …)` of its arguments.

    All other modules and all weights are shared, so it costs next to nothing, and nothing about `net` changes. Of
    modules within each other the inner one must come first.
    """
    copied = module = _shallow(net)
    for part in name.split("."):
        inner = _shallow(module.get_submodule(part))
        module._modules[part] = inner
        module = inner
    module.__dict__["forward"] = partial(forward, module.forward)
    return copied


def _shallow(module: nn.Module) -> nn.Module:
    copied = module.__class__.__new__(module.__class__)
    copied.__dict__.update(module.__dict__, _modules=dict(module._modules))
    return copied


def with_output(net: nn.Module, name: str, value: Tensor, element: int | None = None) -> Any:
    """A copy of `net` in which the module of this name gives `value`. element: it gives a list, of which `value` is
    this part; the rest is computed."""
    def forward(own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if element is None:
            return value
        parts = list(own(*args, **kwargs))
        parts[element] = value
        return parts

    return with_forward(net, name, forward)


class _AllSeen(Exception):
    """Every wanted module has been computed; the rest of the forward pass is not needed."""


def record(net: nn.Module, names: Sequence[str], run: Callable[[Any], Any], early: bool = False,
           copies: bool = False, relays: Mapping[str, Relay] | None = None) -> tuple[Any, list[Any]]:
    """(result of `run(net)`, outputs of the modules of these names, None for those that were not reached).

    run: is given a copy of `net` that records. early: stop once all modules have been computed; the result is None.
    copies: whether the layers that follow are given copies, into which they may write; outputs must be tensors then.
    relays: of some modules, what is recorded of their output, and how the layers that follow get it back: through the
    recorded tensor, so that gradients flow through it.
    """
    outputs: dict[str, Any] = {}
    relayed = relays or {}

    def forward(name: str, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        there, back = relayed.get(name, (None, None))
        found = own(*args, **kwargs)
        outputs[name] = there(found) if there else found
        if early and len(outputs) == len(names):
            raise _AllSeen
        passed = back(outputs[name]) if back else outputs[name]
        return passed.clone() if copies else passed

    recording = net
    for name in sorted(names, key=lambda name: -name.count(".")):
        recording = with_forward(recording, name, partial(forward, name))
    try:
        result = run(recording)
    except _AllSeen:
        result = None
    return result, [outputs.get(name) for name in names]
