"""The teacher's beginning as a student: its stem and first stages, then pooling and a linear layer."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import UsageError
from kd.models.anatomy import Anatomy, anatomy, create
from kd.models.base import Classifier
from kd.models.capture import capture
from kd.models.timm_models import attach
from kd.torch_utils.flops import FlopCounter


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
        taps = anatomy(base).taps[: cut(base, depth)]
        self.net = attach(_prune(net, kept(base, depth)), taps)
        self.stages = tuple(tap.stage for tap in taps)
        self.classifier = nn.Linear(taps[-1].stage.channels, classes)

    def extract(self, normalised: Tensor) -> tuple[Tensor, ...]:
        count = len(self.stages)
        _, maps = capture(self.net.forward_features, normalised, count, stop=count - 1)
        return tuple(maps)

    def extract_after(self, normalised: Tensor, stage: int, features: Tensor) -> Tensor:
        count = len(self.stages)
        _, maps = capture(self.net.forward_features, normalised, count, stop=count - 1, given=(stage, features))
        return maps[-1]

    def head(self, features: Tensor) -> Tensor:
        return self.classifier(features.mean(dim=(2, 3)))

    @property
    def linear(self) -> nn.Linear:
        return self.classifier


def cut(base: str, depth: int) -> int:
    """How many of the base's taps are kept. Raises UsageError when the base has no `depth` stages after its stem."""
    if not base:
        raise UsageError("A truncated student needs the name of the timm model whose first stages it keeps.")
    parts = anatomy(base)
    possible = len(parts.taps) - parts.stem
    if not 1 <= depth <= possible:
        raise UsageError(f"{base} has {possible} stages after its stem, so depth must be between 1 and {possible}, "
                         f"not {depth}.")
    return parts.stem + depth


@lru_cache(maxsize=64)
def kept(base: str, depth: int) -> frozenset[str]:
    """Names of the modules that the forward pass enters, or whose weights it reads, before the cut."""
    parts = anatomy(base)
    count = cut(base, depth)
    net = create(base, classes=2, device="meta").eval()
    attach(net, parts.taps[:count])
    entered: set[str] = set()
    for name, module in net.named_modules():
        module.register_forward_pre_hook(lambda _, __, name=name: entered.add(name))
    with torch.no_grad(), FlopCounter(net) as counter:
        capture(net.forward_features, _picture(parts), count, stop=count - 1)
    return frozenset(entered | {name.rpartition(".")[0] for name in counter.weights_used})


def _picture(parts: Anatomy) -> Tensor:
    return torch.zeros(1, 3, parts.size, parts.size, device="meta")


def _prune(net: nn.Module, names: frozenset[str]) -> nn.Module:
    """Put an empty layer in place of every module in which nothing is kept."""
    needed = {name.rsplit(".", up)[0] for name in names for up in range(name.count(".") + 1)}
    for name, module in list(net.named_modules()):
        for child in list(module._modules):
            if (f"{name}.{child}" if name else child) not in needed:
                module._modules[child] = nn.Identity()
    return net
