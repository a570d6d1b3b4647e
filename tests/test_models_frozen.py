"""Frozen first stages: what is frozen, and the model from there on."""

import pytest
import torch
from lanes import slow

from kd.errors import UsageError
from kd.models import build
from kd.models.frozen import LaterStages, freeze
from kd.spec import RunSpec

SIZE = 64
MODELS = [{"model": "plain", "depth": 4}, {"model": "test_resnet"}, {"model": "mobilenetv2_035"},
          {"model": "truncated", "base": "test_resnet", "depth": 3},
          *slow({"model": "densenet121"}, {"model": "test_convnext"}, {"model": "regnetx_002"}, {"model": "test_nfnet"},
                {"model": "ghostnet_050"}, {"model": "vgg11"}, {"model": "xception41"}, {"model": "dla34"},
                {"model": "hrnet_w18_small"}, {"model": "cspdarknet53"})]


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def made(about: dict) -> torch.nn.Module:
    model = build(RunSpec(image_size=SIZE, width=4, **about), 3)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("about", MODELS, ids=lambda about: about["model"])
def test_only_the_stages_behind_the_frozen_ones_learn(about):
    model = made(about)
    for stages in range(1, len(model.stages) + 1):
        model = made(about)
        freeze(model, stages, SIZE)
        model.train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        features = model.features_at(images(), stages - 1)
        assert not features.requires_grad
        assert torch.equal(features, model.eval().features_at(images(), stages - 1))  # no batch statistics
        model.train()(images()).logits.square().sum().backward()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        learning = {name for name, weight in model.named_parameters() if weight.grad is not None}
        assert not any(name.startswith(f"{module}.") for module in model.frozen for name in changed | learning)
        assert learning, "the classifier learns in any case"
        deepest = model.features_at(images(), stages) if stages < len(model.stages) else None
        assert deepest is None or deepest.requires_grad


@pytest.mark.parametrize("about", MODELS, ids=lambda about: about["model"])
def test_the_later_stages_give_what_the_whole_model_gives_or_say_that_they_cannot(about):
    model = made(about).eval()
    for stage in range(len(model.stages)):
        freeze(model, stage + 1, SIZE)
        later = LaterStages.of(model, stage, SIZE)
        if later is None:  # earlier stages are used again
            assert about["model"] in ("hrnet_w18_small", "dla34")
            continue
        with torch.no_grad():
            expected = model(images(), cams=True)
            found = later(model.features_at(images(), stage), cams=True)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.cams, expected.cams, rtol=1e-3, atol=1e-4)
    assert not model.training


def test_more_stages_than_there_are_are_refused():
    with pytest.raises(UsageError, match="Set it to 4 at most"):
        freeze(made({"model": "plain", "depth": 4}), 5, SIZE)


@pytest.mark.parametrize("changes", [{"frozen_stages": 1}, {"backbone_rate": 0.5}])
def test_random_weights_are_not_set_apart(changes):
    with pytest.raises(UsageError, match=f"{next(iter(changes))} is .* random weights"):
        build(RunSpec(model="test_resnet", image_size=SIZE, **changes), 3)
