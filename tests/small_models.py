"""Small classifiers for tests of explainers, and all that an explanation must leave as it was."""

from copy import copy
from itertools import pairwise

import torch
from torch import nn

from kd.explainers import Explainer
from kd.models.base import Classifier, Stage
from kd.models.masked_student import MaskedStudent, UNet

CLASSES, SIDE = 5, 32


class Small(Classifier):
    """Three stride-2 convolutions, global average pooling, linear."""

    def __init__(self):
        super().__init__()
        widths = (3, 8, 12, 16)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True))
            for before, after in pairwise(widths))
        self.stages = tuple(Stage(f"layers.{n}", width, 2 ** (n + 1)) for n, width in enumerate(widths[1:]))
        self.fc = nn.Linear(widths[-1], CLASSES)

    def forward_stages(self, normalised):
        seen = []
        for layer in self.layers:
            normalised = layer(normalised)
            seen.append(normalised)
        return tuple(seen)

    def stages_from(self, normalised, stage, features):
        for layer in self.layers[stage + 1:]:
            features = layer(features)
        return features

    def forward_head(self, features):
        return self.fc(features.mean(dim=(2, 3)))

    @property
    def pooled_linear(self):
        return self.fc


class Deep(Small):
    """The same stages under a head that has no closed form."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(16, 16)

    def forward_head(self, features):
        return self.fc(self.hidden(features.mean(dim=(2, 3))).relu_())

    @property
    def pooled_linear(self):
        return None


class Constant(Small):
    """Answers the same to everything, looking nowhere."""

    def __init__(self):
        super().__init__()
        for layer in self.layers:
            nn.init.zeros_(layer[0].weight)


def explained(kind=Small):
    """A student of this kind behind an explainer that has learnt something; before that its masks are open."""
    model = MaskedStudent(kind(), UNet(2, 4), "mean", SIDE)
    nn.init.normal_(model.mask_net.score.weight)
    return model


def blind():
    """A student that looks nowhere, behind an explainer that tells no place from another."""
    return MaskedStudent(Constant(), UNet(2, 4), "mean", SIDE)


def made(kind=Small, seed=0):
    torch.manual_seed(seed)
    model = kind()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return model.eval()


def pictures(count=4, seed=1, side=SIDE):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


TARGETS = torch.tensor([0, 3, 1, 4])
EVERY = torch.arange(CLASSES).expand(4, -1)


def quick(explainer: Explainer) -> Explainer:
    """The same explainer with 8 samples, where it samples: what it promises does not depend on how many."""
    if hasattr(explainer, "samples"):
        explainer = copy(explainer)
        explainer.samples = 8
    return explainer


def portrait(model):
    """All that an explanation might change."""
    return {"modes": [module.training for module in model.modules()],
            "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
                      for module in model.modules()],
            "needs": [parameter.requires_grad for parameter in model.parameters()],
            "grads": [parameter.grad for parameter in model.parameters()],
            "values": [value.clone() for value in (*model.parameters(), *model.buffers())],
            "attributes": [sorted(vars(module)) for module in model.modules()]}


def assert_same(now, before):
    for key in ("modes", "hooks", "needs", "grads", "attributes"):
        assert now[key] == before[key], key
    assert all(map(torch.equal, now["values"], before["values"]))
