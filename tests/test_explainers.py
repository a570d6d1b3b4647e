from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from kd.errors import UsageError
from kd.explainers import EXPLAINERS, Maps, scale
from kd.explainers.gradcam import GradCam, gradients_from_image, gradients_of_head
from kd.models import build
from kd.models.base import Classifier, Stage
from kd.spec import RunSpec

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

    def extract(self, normalised):
        seen = []
        for layer in self.layers:
            normalised = layer(normalised)
            seen.append(normalised)
        return tuple(seen)

    def head(self, features):
        return self.fc(features.mean(dim=(2, 3)))

    @property
    def linear(self):
        return self.fc


class Deep(Small):
    """The same stages under a head that has no closed form."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(16, 16)

    def head(self, features):
        return self.fc(self.hidden(features.mean(dim=(2, 3))).relu_())

    @property
    def linear(self):
        return None


class Constant(Small):
    """Answers the same to everything, looking nowhere."""

    def __init__(self):
        super().__init__()
        for layer in self.layers:
            nn.init.zeros_(layer[0].weight)


def made(kind=Small, seed=0):
    torch.manual_seed(seed)
    model = kind()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return model.eval()


@pytest.fixture
def images():
    return torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


TARGETS = torch.tensor([0, 3, 1, 4])
EVERY = torch.arange(CLASSES).expand(4, -1)


@pytest.fixture(params=list(EXPLAINERS))
def explainer(request):
    return EXPLAINERS[request.param]


@pytest.mark.parametrize("kind", [Small, Deep])
class TestEveryExplainer:
    def test_gives_finite_maps_at_every_stages_own_grid(self, explainer, kind, images):
        model = made(kind)
        for stage, grid in enumerate((16, 8, 4)):
            maps = explainer(model, images, TARGETS, stage)
            assert maps.values.shape == (4, grid, grid)
            assert maps.values.dtype == torch.float32
            assert torch.isfinite(maps.values).all()
            assert not maps.values.requires_grad
            assert maps.scaled().amin() >= 0
            assert maps.scaled().amax() <= 1

    def test_a_batch_equals_one_by_one_and_all_stages_equal_one_by_one(self, explainer, kind, images):
        model = made(kind)
        together = explainer.at_stages(model, images, TARGETS, (0, 1, -1))
        for stage, maps in zip((0, 1, -1), together, strict=True):
            alone = torch.cat([explainer(model, images[n:n + 1], TARGETS[n:n + 1], stage).values for n in range(4)])
            torch.testing.assert_close(maps.values, alone, rtol=1e-5, atol=1e-6)

    def test_several_targets_equal_each_alone(self, explainer, kind, images):
        model = made(kind)
        for stage in (0, -1):
            every = explainer(model, images, EVERY, stage)
            assert every.blank.shape == (4, CLASSES)
            for number in range(CLASSES):
                alone = explainer(model, images, EVERY[:, number], stage)
                torch.testing.assert_close(every.values[:, number], alone.values, rtol=1e-5, atol=1e-6)

    def test_is_class_specific_exactly_when_it_says_so(self, explainer, kind, images):
        maps = explainer(made(kind), images, EVERY).values
        differ = (maps - maps[:, :1]).abs().max() > 1e-6
        assert bool(differ) == explainer.facts.class_specific

    @pytest.mark.parametrize("trainable", [True, False])
    def test_leaves_the_model_as_it_was(self, explainer, kind, images, trainable):
        model = made(kind).requires_grad_(trainable)
        before = portrait(model)
        for stage in (0, -1):
            explainer(model, images, TARGETS, stage)
        assert_same(portrait(model), before)
        assert not images.requires_grad

    def test_leaves_the_model_as_it_was_after_an_error(self, explainer, kind, images):
        model = made(kind)
        before = portrait(model)
        for bad in (images[:, :1, :0], torch.full_like(images, 0.5)[:, :2]):
            with pytest.raises((RuntimeError, IndexError)):
                explainer(model, bad, TARGETS, 0)
        if explainer.facts.class_specific:
            for stage in (0, -1):
                with pytest.raises((RuntimeError, IndexError)):
                    explainer(model, images, TARGETS + CLASSES, stage)
        assert_same(portrait(model), before)
        assert torch.is_grad_enabled()

    def test_works_where_the_caller_turned_gradients_off(self, explainer, kind, images):
        model = made(kind)
        for stage in (0, -1):
            expected = explainer(model, images, TARGETS, stage).values
            with torch.no_grad():
                assert torch.equal(explainer(model, images, TARGETS, stage).values, expected)
                assert not torch.is_grad_enabled()

    def test_many_threads_may_share_one_model(self, explainer, kind, images):
        model = made(kind)
        work = [(n % 4, n % 3) for n in range(40)]

        def one(job):
            image, stage = job
            return explainer(model, images[image:image + 1], TARGETS[image:image + 1], stage).values

        expected = [one(job) for job in work]
        with ThreadPoolExecutor(8) as threads:
            for mine, alone in zip(threads.map(one, work), expected, strict=True):
                assert torch.equal(mine, alone)

    def test_refuses_a_model_in_training_mode_before_it_changes_its_statistics(self, explainer, kind, images):
        model = made(kind).train()
        before = portrait(model)
        with pytest.raises(ValueError, match="eval mode"):
            explainer(model, images, TARGETS)
        assert_same(portrait(model), before)


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


def test_facts_say_what_one_sees(explainer):
    facts = explainer.facts
    assert facts.title
    assert "arXiv" in facts.paper
    assert facts.seeing.endswith(".")


def test_an_unknown_stage_is_named_with_the_way_out(explainer, images):
    with pytest.raises(UsageError, match=r"no stage 3: .* 0 to 2"):
        explainer(made(), images, TARGETS, 3)
    with pytest.raises(UsageError, match="no stage -4"):
        explainer(made(), images, TARGETS, -4)


def test_closed_form_equals_the_gradient(images):
    model, grad_cam = made(), GradCam()
    with torch.no_grad():
        features = model(images).stages[-1]
    closed = grad_cam(model, images, EVERY).values
    torch.testing.assert_close(closed, grad_cam.combine(*gradients_of_head(model, features, EVERY)))
    [(seen, gradients)] = gradients_from_image(model, images, EVERY, [2])
    torch.testing.assert_close(closed, grad_cam.combine(seen, gradients))


def test_early_stages_are_grad_cam_by_the_book(images):
    model = made(Deep)
    for stage in range(3):
        features = model(images.clone().requires_grad_()).stages
        logits = model.head(features[-1])
        score = logits[torch.arange(4), TARGETS].sum()
        [slope] = torch.autograd.grad(score, features[stage])
        expected = (slope.mean((2, 3), keepdim=True) * features[stage]).sum(1).clamp(min=0)
        found = EXPLAINERS["grad-cam"](model, images, TARGETS, stage).values
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)


def test_the_last_stage_takes_no_gradient_of_the_rest(images):
    """Only the head is differentiated: a backbone that forbids gradients still gives its last stage's map."""

    class Guarded(Deep):
        def extract(self, normalised):
            assert not torch.is_grad_enabled()
            return super().extract(normalised)

    maps = EXPLAINERS["grad-cam"](made(Guarded), images, TARGETS)
    assert not maps.blank.all()


def test_a_head_may_work_in_place(images):
    class Rectifying(Deep):
        def head(self, features):
            return super().head(features.sub_(0.2).relu_())

    maps = EXPLAINERS["grad-cam"](made(Rectifying), images, TARGETS)
    assert torch.isfinite(maps.values).all()


def test_stage_maps_are_channel_averages(images):
    model = made()
    with torch.no_grad():
        stages = model(images).stages
    for stage, maps in zip(stages, EXPLAINERS["stage-maps"].at_stages(model, images, TARGETS, range(3)), strict=True):
        assert torch.equal(maps.values, stage.mean(dim=1))


def test_a_model_that_looks_nowhere_gives_blank_maps(explainer, images):
    for stage in range(3):
        maps = explainer(made(Constant), images, TARGETS, stage)
        assert maps.blank.all()
        assert not maps.scaled().any()


def test_scaling_spans_0_to_1_once_and_leaves_blank_maps_blank():
    values = torch.stack([torch.arange(4.0).view(2, 2) - 7, torch.full((2, 2), 3.0), torch.zeros(2, 2),
                          torch.full((2, 2), float("nan")), torch.tensor([[1.0, 1.0], [1.0, 1.0 + 5e-7]])])
    maps = Maps(values)
    assert maps.blank.tolist() == [False, True, True, True, True]
    assert torch.equal(maps.scaled()[0], torch.arange(4.0).view(2, 2) / 3)
    assert not maps.scaled()[1:].any()
    assert torch.equal(scale(maps.scaled()), maps.scaled())
    assert not Maps(values[0] * 1e-20).blank.any(), "a faint map is no blank one"


def test_a_map_with_an_infinite_value_is_blank():
    values = torch.rand(1, 3, 3)
    values[0, 0, 0] = np.inf
    assert Maps(values).blank.all()
    assert not Maps(values).scaled().any()


FAMILIES = ("test_resnet", "resnet18", "densenet121", "efficientnet_b0", "mobilenetv3_small_100", "regnetx_002",
            "convnext_atto", "ghostnet_100")


class Logits(nn.Module):
    """A classifier as the package grad-cam wants it, with a module that it can watch at the last stage."""

    def __init__(self, model):
        super().__init__()
        self.model, self.last = model, nn.Identity()

    def forward(self, images):
        return self.model.head(self.last(self.model.extract((images - self.model.mean) / self.model.std)[-1]))


@pytest.mark.parametrize("name", FAMILIES)
def test_grad_cam_equals_the_package_grad_cam_before_scaling(name):
    """The raw maps, ReLU'd and at the stage's own grid: after that the package scales twice."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = build(RunSpec(model=name, image_size=96), CLASSES).eval()
    images, targets = torch.rand(5, 3, 96, 96, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    count = len(model.stages)
    found = EXPLAINERS["grad-cam"].at_stages(model, images, targets, range(count))
    last = EXPLAINERS["grad-cam"](model, images, targets)
    wrapped = Logits(model)
    layers = [model.net.get_submodule(stage.name) for stage in model.stages[:-1]] + [wrapped.last]
    cam = GradCAM(wrapped, layers)
    cam(images, [ClassifierOutputTarget(int(target)) for target in targets])
    seen = cam.activations_and_grads
    pairs = list(zip(seen.activations, seen.gradients, strict=True))
    cam.activations_and_grads.release()
    for maps, (features, slope) in zip((*found, last), (*pairs, pairs[-1]), strict=True):
        raw = np.maximum(cam.get_cam_image(images, wrapped.last, None, features.numpy(), slope.numpy()), 0)
        assert raw.max() > 0
        assert np.abs(maps.values.numpy() - raw).max() <= 1e-4 * raw.max()
