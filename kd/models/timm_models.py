"""Any CNN of timm as a classifier, whole or cut behind one of its first stages."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import UsageError
from kd.models.base import Classifier
from kd.models.capture import Capture, capture
from kd.models.timm_info import Tap, TimmInfo, create, timm_info
from kd.torch_utils.flops import FlopCounter


class TimmClassifier(Classifier):
    """Stages: timm's feature stages but the last, then the output of `forward_features`.

    net: a timm network with `name`'s architecture; it is taken over (hooks are attached to it).
    """

    net: Any

    def __init__(self, name: str, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__(mean, std)
        parts = timm_info(name)
        self.net = attach(net, parts.taps[:-1])
        self.stages = (*(tap.stage for tap in parts.taps[:-1]), parts.last)
        self._linear = parts.linear if is_pooled_linear(net, parts) else None

    def forward_stages(self, normalised: Tensor) -> tuple[Tensor, ...]:
        last, maps = capture(self.net.forward_features, normalised, len(self.stages) - 1)
        return (*maps, last)

    def stages_from(self, normalised: Tensor, stage: int, features: Tensor) -> Tensor:
        return capture(self.net.forward_features, normalised, len(self.stages) - 1, given=(stage, features))[0]

    def forward_head(self, features: Tensor) -> Tensor:
        return self.net.forward_head(features)

    @property
    def pooled_linear(self) -> nn.Linear | None:
        return self.net.get_submodule(self._linear) if self._linear else None


def attach(net: nn.Module, taps: tuple[Tap, ...]) -> nn.Module:
    """Register the permanent hook of every tap."""
    for index, tap in enumerate(taps):
        net.get_submodule(tap.module).register_forward_hook(Capture(index, tap.element, tap.clone))
    return net


def is_pooled_linear(net: Any, parts: TimmInfo) -> bool:
    """Whether the head is global average pooling + the lone linear layer: tried on numbers, where the net has any."""
    if parts.linear is None or next(net.parameters()).is_meta:
        return parts.linear is not None
    linear, training = net.get_submodule(parts.linear), net.training
    # Signed and uneven, so that an activation or another pooling in the head shows.
    count = 2 * parts.last.channels * 3 * 2
    features = torch.arange(count, dtype=torch.float32).mul(0.7).sin().view(2, parts.last.channels, 3, 2)
    net.eval()
    with torch.no_grad():
        same = torch.allclose(net.forward_head(features.clone()), linear(features.mean((2, 3))), rtol=1e-4, atol=1e-5)
    net.train(training)
    return same


class Truncated(Classifier):
    """timm's `base` up to its `depth`-th stage after the stem, global average pooling, linear.

    net: the whole network; it is taken over, and what lies behind the cut is removed from it. The forward pass leaves
    it at the cut, so every kind of network can be cut where timm names a stage.
    Raises UsageError when the base has fewer stages.
    """

    net: Any

    def __init__(self, base: str, depth: int, net: nn.Module, classes: int, mean: tuple[float, ...],
                 std: tuple[float, ...]) -> None:
        super().__init__(mean, std)
        taps = timm_info(base).taps[: cut(base, depth)]
        self.net = attach(_prune(net, kept(base, depth)), taps)
        self.stages = tuple(tap.stage for tap in taps)
        self.classifier = nn.Linear(taps[-1].stage.channels, classes)

    def forward_stages(self, normalised: Tensor) -> tuple[Tensor, ...]:
        count = len(self.stages)
        _, maps = capture(self.net.forward_features, normalised, count, stop=count - 1)
        return tuple(maps)

    def stages_from(self, normalised: Tensor, stage: int, features: Tensor) -> Tensor:
        count = len(self.stages)
        _, maps = capture(self.net.forward_features, normalised, count, stop=count - 1, given=(stage, features))
        return maps[-1]

    def forward_head(self, features: Tensor) -> Tensor:
        return self.classifier(features.mean(dim=(2, 3)))

    @property
    def pooled_linear(self) -> nn.Linear:
        return self.classifier


def cut(base: str, depth: int) -> int:
    """How many of the base's taps are kept. Raises UsageError when the base has no `depth` stages after its stem."""
    if not base:
        raise UsageError("A truncated student needs the name of the timm model whose first stages it keeps.")
    parts = timm_info(base)
    possible = len(parts.taps) - parts.stem
    if not 1 <= depth <= possible:
        raise UsageError(f"{base} has {possible} stages after its stem, so depth must be between 1 and {possible}, "
                         f"not {depth}.")
    return parts.stem + depth


@lru_cache(maxsize=64)
def kept(base: str, depth: int) -> frozenset[str]:
    """Names of the modules that the forward pass enters, or whose weights it reads, before the cut."""
    parts = timm_info(base)
    count = cut(base, depth)
    net = create(base, classes=2, device="meta").eval()
    attach(net, parts.taps[:count])
    entered: set[str] = set()
    for name, module in net.named_modules():
        module.register_forward_pre_hook(lambda _, __, name=name: entered.add(name))
    with torch.no_grad(), FlopCounter(net) as counter:
        capture(net.forward_features, _picture(parts), count, stop=count - 1)
    return frozenset(entered | {name.rpartition(".")[0] for name in counter.weights_used})


def _picture(parts: TimmInfo) -> Tensor:
    return torch.zeros(1, 3, parts.size, parts.size, device="meta")


def _prune(net: nn.Module, names: frozenset[str]) -> nn.Module:
    """Put an empty layer in place of every module in which nothing is kept."""
    needed = {name.rsplit(".", up)[0] for name in names for up in range(name.count(".") + 1)}
    for name, module in list(net.named_modules()):
        for child in list(module._modules):
            if (f"{name}.{child}" if name else child) not in needed:
                module._modules[child] = nn.Identity()
    return net
