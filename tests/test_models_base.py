"""Class activation maps of any head: closed where it is pooling and one linear layer, else by the gradient."""

import pytest
import torch
from small_models import CLASSES, Deep, Small, made, pictures

from kd.models import build
from kd.spec import RunSpec

KINDS = {"plain": {"depth": 3, "width": 4}, "truncated": {"base": "test_resnet", "depth": 2}, "test_resnet": {},
         "test_convnext": {}, "mobilenetv3_small_050": {}, "test_nfnet": {}}
CLOSED = ("plain", "truncated", "test_resnet", "test_nfnet")


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    torch.set_num_threads(1)
    return build(RunSpec(model=request.param, image_size=64, **KINDS[request.param]), 3).eval()


def images():
    return pictures(2, side=64)


def by_hand(model, features):
    """Every class's weight of every channel by a gradient of its own, image by image."""
    maps = torch.zeros(len(features), 3, *features.shape[-2:])
    for row, one in enumerate(features.detach()):
        for label in range(3):
            source = one[None].clone().requires_grad_()
            [gradient] = torch.autograd.grad(model.forward_head(source.clone())[0, label], source)
            maps[row, label] = sum(gradient[0, c].sum() * one[c] for c in range(len(one)))
    return maps


def test_maps_are_the_channels_weighted_by_each_logits_gradient(model):
    seen = model(images(), cams=True)
    features = seen.stages[-1]
    assert seen.cams.shape == (2, 3, *features.shape[-2:])
    expected = by_hand(model, features)
    torch.testing.assert_close(seen.cams, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    if model.pooled_linear is not None:
        weight = model.pooled_linear.weight
        assert torch.allclose(seen.cams[1, 2], sum(weight[2, c] * features[1, c] for c in range(len(weight[2]))),
                              rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", CLOSED, indirect=True)
def test_the_gradient_gives_what_the_closed_form_does(model):
    assert model.pooled_linear is not None
    seen = model(images(), cams=True)
    torch.testing.assert_close(model._gradient_maps(seen.stages[-1]), seen.cams, rtol=1e-4, atol=1e-6)


def test_a_forward_pass_is_the_same_with_maps_and_without(model):
    with torch.no_grad():
        plain, watched = model(images()), model(images(), cams=True)
    assert plain.cams is None
    assert torch.equal(plain.logits, watched.logits)
    assert all(map(torch.equal, plain.stages, watched.stages))


@pytest.mark.parametrize("quiet", [torch.no_grad, torch.inference_mode])
def test_a_teacher_gives_maps_without_a_graph(model, quiet):
    expected = model(images(), cams=True).cams
    with quiet():
        found = model(images(), cams=True).cams
    assert not found.requires_grad
    assert found.grad_fn is None
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)
    frozen = [weight for weight in model.parameters() if weight.requires_grad]
    model.requires_grad_(False)
    assert not model(images(), cams=True).cams.requires_grad
    for weight in frozen:
        weight.requires_grad_(True)
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("kind", [Small, Deep])
def test_maps_learn(kind):
    """Finite differences of a function of the maps, with respect to weights before and in the head."""
    model = made(kind).double()
    batch = pictures(2).double()
    blend = torch.randn(2, CLASSES, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def wanted():
        return (model(batch, cams=True).cams * blend).square().sum()

    layers = [model.layers[0][0].weight, model.layers[2][1].weight, model.fc.weight]
    layers += [model.hidden.weight] if kind is Deep else []
    gradients = torch.autograd.grad(wanted(), layers)
    for weight, gradient in zip(layers, gradients, strict=True):
        place = tuple(int(i) for i in torch.nonzero(gradient.abs() == gradient.abs().max())[0])
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[place] += step
                values.append(wanted().item())
                weight[place] -= step
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient[place].item(), rel=1e-5)


def test_maps_of_one_image_do_not_depend_on_the_others(model):
    together = model(images(), cams=True).cams
    alone = model(images()[:1], cams=True).cams
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-6)
