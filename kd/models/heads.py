"""New classifiers of networks: where they start, and which parameters are theirs.

timm draws the classifier of its EfficientNet kin (MobileNet, MnasNet and others) from U(±1/√K), K the number of
classes: for four classes 18 times as wide as `nn.Linear` draws it, so that training starts at a cross-entropy of 15
instead of ln 4 = 1.4, and its first steps undo what a pretrained network has learnt.
"""

from collections.abc import Sequence

import torch
from torch import nn

from kd.models.base import Classifier


def start_at_zero(model: nn.Module, layers: Sequence[str]) -> None:
    """Set all weights of these layers to 0: every class is equally likely, and the first step moves the classifier
    alone."""
    with torch.no_grad():
        for weight in _weights(model, layers):
            weight.zero_()


def limit_spread(model: nn.Module, layers: Sequence[str]) -> None:
    """Shrink the drawn kernels and matrices of these layers to the spread of U(±1/√n), n the inputs of one output,
    where they are over twice as wide; that is how `nn.Linear` and `nn.Conv2d` draw them. Nothing changes on the meta
    device."""
    with torch.no_grad():
        for weight in _weights(model, layers):
            if weight.ndim > 1 and not weight.is_meta:
                usual, found = (3 * weight[0].numel()) ** -0.5, weight.square().mean().sqrt()
                weight.mul_(usual / found if found > 2 * usual else 1.0)


def backbone_parameters(model: Classifier, layers: Sequence[str]) -> list[nn.Parameter]:
    """The parameters of a model that are not those of these layers."""
    head = {id(weight) for weight in _weights(model, layers)}
    return [weight for weight in model.parameters() if id(weight) not in head]


def _weights(model: nn.Module, layers: Sequence[str]) -> list[nn.Parameter]:
    return [weight for layer in layers for weight in model.get_submodule(layer).parameters()]
