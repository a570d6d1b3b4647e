"""Frozen first stages of a classifier, and the classifier from there on."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import UsageError
from kd.models.base import Classifier
from kd.observation import Observation
from kd.torch_utils.flops import FlopCounter, meta_image

_STANDS_IN = (32, 64, 128)  # px, sides of the blank image that the frozen stages are given when features replace them
ALIKE = 1e-3  # relative difference of logits that rounding makes


def freeze(model: Classifier, stages: int, size: int) -> None:
    """Keep the weights and the batch-norm statistics of a model's first `stages` stages as they are, in training too.

    size: side of the images in pixels. Raises UsageError where the model has fewer stages.
    """
    require_stages(model, stages)
    used = _weights_before(model, stages - 1, size)
    for name, weight in model.named_parameters():
        if name in used:
            weight.requires_grad_(False)
    model.frozen = tuple(name for name, module in model.named_modules() if name and _lies_within(name, module, used))
    model.train(model.training)


def require_stages(model: Classifier, stages: int) -> None:
    """Raise UsageError where the model has fewer stages than shall be frozen."""
    if stages > (most := len(model.stages)):
        names = ", ".join(stage.name for stage in model.stages)
        raise UsageError(f"frozen_stages is {stages}, but the model has {most} stages ({names}). Set it to {most} at "
                         "most.")


def _weights_before(model: Classifier, stage: int, size: int) -> set[str]:
    """Names of the weights that the output of a stage is computed with."""
    bare = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounter(bare) as counter:
        bare.features_at(meta_image(size), stage)
    return counter.weights_used


def _lies_within(name: str, module: nn.Module, used: set[str]) -> bool:
    """Whether a module has weights, and all of them are among those of these names."""
    own = [f"{name}.{weight}" for weight, _ in module.named_parameters()]
    return bool(own) and used.issuperset(own)


class LaterStages(nn.Module):
    """A classifier from behind one of its stages on: takes the features of that stage [B, C, H, W], gives the
    observation without stages. Its weights are the classifier's own.

    stage: counted from 0. Raises ValueError where the network cannot be computed from this stage on, because it also
    uses earlier ones: `of` is there to ask first.
    """

    def __init__(self, model: Classifier, stage: int, side: int = _STANDS_IN[0]) -> None:
        super().__init__()
        self.model, self.stage, self.side = model, stage, side

    @classmethod
    def of(cls, model: Classifier, stage: int, size: int) -> "LaterStages | None":
        """The later stages of a model for images of `size` pixels; None where its forward pass cannot begin behind
        that stage. The model's mode is unchanged."""
        device, training = next(model.parameters()).device, model.training
        images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        model.eval()
        try:
            with torch.no_grad():
                expected, features = model(images, stages=False).logits, model.features_at(images, stage)
                candidates = (cls(model, stage, side) for side in (*_STANDS_IN, size))
                return next((one for one in candidates if _gives(one, features, expected)), None)
        finally:
            model.train(training)

    def forward(self, features: Tensor, cams: bool = False, stages: bool = False) -> Observation:
        """Observation of images, given the features of the stage. cams: whether it has class activation maps. stages
        is accepted as a classifier's and must be False."""
        assert not stages, "features of the stages before are not known"
        last = features
        if self.stage < len(self.model.stages) - 1:
            # The frozen stages are computed on one small blank image, which costs next to nothing, and replaced.
            blank = features.new_zeros(1, 3, self.side, self.side)
            last = self.model.stages_from(blank, self.stage, features)
        return Observation(self.model.forward_head(last), (), self.model.class_activation_maps(last) if cams else None)


def _gives(later: LaterStages, features: Tensor, expected: Tensor) -> bool:
    """Whether the later stages give these logits for features."""
    try:
        found: Any = later(features.clone()).logits
    except (RuntimeError, ValueError, IndexError, AssertionError):  # of shapes that do not fit one another
        return False
    scale = expected.abs().max().clamp_min(1e-6)
    return found.shape == expected.shape and bool(((found - expected).abs().max() / scale) < ALIKE)
