"""Any CNN of timm as a classifier: the classifier layer is replaced, the rest kept."""

from typing import Any

import torch
from torch import Tensor, nn

from kd.models.anatomy import Anatomy, Tap, anatomy
from kd.models.base import Classifier
from kd.models.capture import Capture, capture


class TimmClassifier(Classifier):
    """Stages: timm's feature stages but the last, then the output of `forward_features`.

    net: a timm network with `name`'s architecture; it is taken over (hooks are attached to it).
    """

    net: Any

    def __init__(self, name: str, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__(mean, std)
        parts = anatomy(name)
        self.net = attach(net, parts.taps[:-1])
        self.stages = (*(tap.stage for tap in parts.taps[:-1]), parts.last)
        self._linear = parts.linear if is_pooled_linear(net, parts) else None

    def extract(self, normalised: Tensor) -> tuple[Tensor, ...]:
        last, maps = capture(self.net.forward_features, normalised, len(self.stages) - 1)
        return (*maps, last)

    def extract_after(self, normalised: Tensor, stage: int, features: Tensor) -> Tensor:
        return capture(self.net.forward_features, normalised, len(self.stages) - 1, given=(stage, features))[0]

    def head(self, features: Tensor) -> Tensor:
        return self.net.forward_head(features)

    @property
    def linear(self) -> nn.Linear | None:
        return self.net.get_submodule(self._linear) if self._linear else None


def attach(net: nn.Module, taps: tuple[Tap, ...]) -> nn.Module:
    """Register the permanent hook of every tap."""
    for index, tap in enumerate(taps):
        net.get_submodule(tap.module).register_forward_hook(Capture(index, tap.element, tap.clone))
    return net


def is_pooled_linear(net: Any, parts: Anatomy) -> bool:
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
