"""Networks from elsewhere as classifiers: torchvision's, timm's, and ones that misbehave."""

import copy
import threading

import pytest
import timm
import torch
import torchvision
from torch import nn

from kd.errors import UsageError
from kd.explainers import EXPLAINERS
from kd.models.wrapped import IMAGENET, wrap

SIDE = 32


class Careless(nn.Module):
    """Writes into its own maps, drops out, has batch norm, and a part that runs twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6))
        self.again = nn.Conv2d(6, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 4))

    def forward(self, images):
        first = self.first(images)
        first.relu_()
        second = self.second(self.again(self.again(first)))
        second.mul_(2).relu_()
        return self.classifier(second.amax(dim=(2, 3)))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(3)
    return Careless()


@pytest.fixture(scope="module")
def residual():
    torch.manual_seed(0)
    return wrap(timm.create_model("test_resnet", num_classes=4), size=SIDE)


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


NETWORKS = {
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=5),
                             ["layer1", "layer2", "layer3", "layer4"]),
    "torchvision mobilenet": (lambda: torchvision.models.mobilenet_v3_small(num_classes=5),
                              ["features.1", "features.3", "features.8", "features.12"]),
    "torchvision densenet": (lambda: torchvision.models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=5),
                             [*(f"features.denseblock{number}" for number in (1, 2, 3)), "features.norm5"]),
    "timm": (lambda: timm.create_model("test_resnet", num_classes=5), ["layer1", "layer2", "layer3", "layer4"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_are_found_and_nothing_else_changes(name):
    make, stages = NETWORKS[name]
    torch.manual_seed(0)
    module = make()
    before = copy.deepcopy(module.state_dict())
    wrapped = wrap(module, size=64)
    images = torch.rand(2, 3, 64, 64)
    assert [stage.name for stage in wrapped.stages] == stages
    seen = wrapped(images)
    for stage, features in zip(wrapped.stages, seen.stages, strict=True):
        assert features.shape == (2, stage.channels, 64 // stage.reduction, 64 // stage.reduction)
    assert module.training
    assert not module._forward_hooks and not any(part._forward_hooks for part in module.modules())
    assert all(weight.requires_grad for weight in module.parameters())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    torch.testing.assert_close(seen.logits, module.eval()((images - wrapped.mean) / wrapped.std))


def test_the_scaling_is_that_of_the_weights_or_none(net):
    assert wrap(torchvision.models.squeezenet1_1()).mean.flatten().tolist() == pytest.approx(IMAGENET[0])
    config = timm.create_model("test_resnet", num_classes=2).pretrained_cfg
    stated = wrap(timm.create_model("test_resnet", num_classes=2))
    assert stated.std.flatten().tolist() == pytest.approx(list(config["std"]))
    assert wrap(net, size=SIDE).mean.flatten().tolist() == [0, 0, 0]
    assert wrap(net, size=SIDE, mean=(0.1, 0.2, 0.3)).mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_maps_are_those_before_the_next_layer_writes_into_them(net, images):
    wrapped = wrap(net, ["first", "second"], size=SIDE)
    seen = wrapped(images)
    assert (seen.stages[0] < 0).any() and (seen.stages[1] < 0).any()
    torch.testing.assert_close(seen.logits, copy.deepcopy(net).eval()(images))


def test_from_any_stage_on_it_is_the_same_network(net, images):
    wrapped = wrap(net, ["first", "second"], size=SIDE)
    seen = wrapped(images)
    torch.testing.assert_close(wrapped.forward_head(seen.stages[-1]), seen.logits)
    for number, features in enumerate(seen.stages):
        torch.testing.assert_close(wrapped.forward_from(images, number, features), seen.logits)
        assert not torch.allclose(wrapped.forward_from(images, number, features * 0), seen.logits)
    torch.testing.assert_close(wrapped.stages_from(images, 0, seen.stages[0]), seen.stages[1])


def test_grad_cam_is_its_formula(net, images):
    wrapped = wrap(net, ["first", "second"], size=SIDE)
    targets = torch.tensor([1, 3])
    plain = copy.deepcopy(net).eval()
    with torch.enable_grad():
        first = plain.first(images)
        second = plain.second(plain.again(plain.again(first.relu())))
        scores = plain.classifier(second.mul(2).relu().amax(dim=(2, 3)))[range(2), targets].sum()
        gradients = torch.autograd.grad(scores, [first, second])
    for number, (features, gradient) in enumerate(zip((first, second), gradients, strict=True)):
        expected = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()
        assert (expected > 0).any()
        torch.testing.assert_close(EXPLAINERS["grad-cam"](wrapped, images, targets, number).values, expected.detach())


@pytest.mark.parametrize("name", [name for name in EXPLAINERS if name != "mask"])
def test_every_explainer_works(name, residual, images):
    maps = EXPLAINERS[name](residual, images[:1], torch.tensor([[0, 3]]))
    assert maps.values.shape[:2] == (1, 2)
    assert maps.values.isfinite().all()
    assert not maps.blank.all()


def test_threads_may_share_it(net, images):
    wrapped = wrap(net, ["first", "second"], size=SIDE)
    apart = [images[:1], images[1:]]
    expected = [wrapped(each).stages[1] for each in apart]
    wrong = []

    def look(number):
        wrong.extend(number for _ in range(30)
                     if not torch.allclose(wrapped(apart[number]).stages[1], expected[number]))

    threads = [threading.Thread(target=look, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class Listed(Careless):
    """Calls its parts through a list."""

    def __init__(self):
        super().__init__()
        self.parts = [self.first, self.second]

    def forward(self, images):
        for part in self.parts:
            images = part(images)
        return self.classifier(images.amax(dim=(2, 3)))


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.only = nn.Linear(3 * SIDE * SIDE, 2)

    def forward(self, images):
        return self.only(images.flatten(1))


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda net: wrap(net, ["frist"], size=SIDE), r"Unknown stage 'frist'\. Did you mean 'first'"),
    (lambda net: wrap(net, ["again"], size=SIDE), r"'again' gives no feature maps .* or is called several times"),
    (lambda net: wrap(net, ["classifier"], size=SIDE), r"Name others, such as .*second"),
    (lambda net: wrap(net, ["second", "first"], size=SIDE), r"from the input on: first, second"),
    (lambda net: wrap(net, [], size=SIDE), r"at least one stage"),
    (lambda net: wrap(net, "frist", size=SIDE), r"Unknown stage 'frist'\. Did you mean 'first'"),
    (lambda net: wrap(None), r"Only a torch module can be wrapped, not NoneType"),
    (lambda net: wrap(net, classes=["a"], size=SIDE), r"4 classes, but 1 are named"),
    (lambda net: wrap(net, mean=[0.5], size=SIDE), r"mean must be three numbers"),
    (lambda net: wrap(Listed(), size=SIDE), r"does not call second as its submodule"),
    (lambda net: wrap(Flat(), size=SIDE), r"no stage that is found by itself"),
    (lambda net: wrap(Flat(), size=64), r"cannot take RGB images \[1, 3, 64, 64\].*size that it is made for"),
    (lambda net: wrap(nn.Conv2d(3, 4, 3), size=SIDE), r"must return logits \[B, K\], not \[1, 4, 30, 30\]"),
])
def test_what_cannot_be_wrapped_says_the_way_out(net, wrong, message):
    with pytest.raises(UsageError, match=message):
        wrong(net)
