import threading
from functools import cache

import pytest
import timm
import torch
from lanes import slow

from kd.models import build, wants_float32
from kd.models.base import Classifier
from kd.models.layouts import Layout
from kd.models.timm_info import timm_info
from kd.models.timm_models import _read
from kd.spec import RunSpec

# One of each way in which timm networks differ: where stages lie, what they return, what stands in the head.
FAMILIES = ("test_resnet", "test_efficientnet", "test_nfnet", "test_convnext", "mobilenetv3_small_050",
            "hrnet_w18_small", "test_mambaout", *slow(
                "resnet10t", "densenet121", "mobilenetv2_100", "efficientnet_b0", "regnety_002", "convnext_atto",
                "ghostnet_050", "inception_v3", "repvgg_a0", "legacy_xception", "selecsls42", "nf_resnet26",
                "resnetv2_18", "dla34", "lambda_resnet26t", "resnetv2_50d_frn", "gcresnext26ts", "poolformer_s12",
                "test_efficientnet_evos", "mobilenetv4_hybrid_medium_075", "ghostnetv3_050", "pvt_v2_b0",
                "mobilevit_xxs", "efficientvit_b0", "hieradet_small"))
NOT_POOLED_LINEAR = {"test_convnext", "convnext_atto", "mobilenetv3_small_050", "ghostnet_050", "resnetv2_18", "dla34",
                     "test_mambaout", "resnetv2_50d_frn", "mobilenetv4_hybrid_medium_075", "poolformer_s12",
                     "ghostnetv3_050", "efficientvit_b0", "hieradet_small"}
SIZE = 96


def spec(model: str, **changes) -> RunSpec:
    return RunSpec(model=model, **{"image_size": SIZE, **changes})


@cache
def ready(name: str) -> Classifier:
    """A built model in eval mode; shared between tests, so not to be changed."""
    return build(spec(name), classes=3).eval()


def pictures(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_observation_is_what_the_stages_say(name):
    model = ready(name)
    with torch.no_grad():
        logits, maps, *_ = model(pictures())
    assert logits.shape == (2, 3)
    assert len(maps) == len(model.stages) >= 3
    assert [features.shape[1] for features in maps] == [stage.channels for stage in model.stages]
    for features, stage in zip(maps, model.stages, strict=True):
        # Networks without padding lose a rim of a few units.
        assert SIZE / stage.reduction - 4 <= features.shape[-1] <= -(-SIZE // stage.reduction)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_timms_own(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = timm.create_model(name, num_classes=3).eval()
    reference.load_state_dict(ready(name).net.state_dict())  # whose head can be narrower than timm draws it
    mean, std = (torch.tensor(reference.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = reference((pictures() - mean) / std)
        observed = ready(name)(pictures())
    assert torch.equal(observed.logits, expected)
    assert torch.equal(ready(name).forward_head(observed.stages[-1].clone()), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_linear_layer_is_offered_exactly_where_the_head_is_pooling_and_that_layer(name):
    model = ready(name)
    assert (model.pooled_linear is None) == (name in NOT_POOLED_LINEAR)
    if model.pooled_linear is not None:
        with torch.no_grad():
            logits, maps, *_ = model(pictures())
            assert torch.allclose(model.pooled_linear(maps[-1].mean((2, 3))), logits, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_later_layer_writes_into_a_stage(name):
    model = ready(name)
    scaled = (pictures() - model.mean) / model.std
    outputs = timm_info(name).outputs[:-1]
    with torch.no_grad():
        whole = model.forward_stages(scaled)
        for stage in range(len(outputs)):
            _, maps = _read(model.net, outputs[:stage + 1], scaled, early=True)
            assert torch.equal(maps[stage], whole[stage])


def test_timms_own_stages_are_taken_wherever_they_are_what_its_modules_compute():
    """HRNet's own intermediates are all of its last stage, and Xception's are copies that no gradient flows through."""
    names = [one for one in FAMILIES if isinstance(one, str)] + ["legacy_xception"]  # without the slow lane's
    read = {name for name in names if any(output.index is None for output in timm_info(name).outputs)}
    assert read == {"hrnet_w18_small", "legacy_xception", "test_mambaout"}
    assert [output.stage.name for output in timm_info("hrnet_w18_small").outputs] == ["stage2", "stage3", "stage4"]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_stage_has_a_gradient(name):
    logits, maps, *_ = ready(name)(pictures().requires_grad_())
    gradients = torch.autograd.grad(logits[:, 0].sum(), maps)
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize(("name", "size", "layout"), [
    ("levit_128s", 224, Layout.TOKENS), *slow(("swin_tiny_patch4_window7_224", 224, Layout.CHANNELS_LAST),
                                              ("mixer_s32_224", 224, Layout.TOKENS), ("haloregnetz_b", 224,
                                                                                      Layout.CHANNELS_FIRST))])
def test_a_network_of_one_size_and_another_layout_has_maps_from_which_its_answer_follows(name, size, layout):
    model = build(spec(name, image_size=size), classes=3).eval()
    assert timm_info(name).layout is layout
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        prepared = model.prepare(images)
        logits, maps, *_ = model(images)
        assert torch.allclose(logits, model.net(prepared), atol=1e-5)
        assert torch.allclose(model.forward_head(maps[-1].clone()), logits, atol=1e-5)
        for stage, features in enumerate(maps[:-1]):
            assert torch.allclose(model.stages_from(prepared, stage, features), maps[-1], atol=1e-4)
    assert all(features.shape[-1] == features.shape[-2] for features in maps)


def test_vgg_whose_head_wants_a_larger_grid_takes_small_pictures_all_the_same():
    model = build(spec("vgg11", image_size=32), classes=3).eval()
    with torch.no_grad():
        logits, maps, *_ = model(torch.rand(1, 3, 32, 32))
    assert logits.shape == (1, 3)
    assert [features.shape[-1] for features in maps] == [32, 16, 8, 4, 2, 1]
    assert model.pooled_linear is None


@pytest.mark.parametrize("name", ["test_resnet", *slow("densenet121")])
def test_threads_that_share_a_model_get_their_own_maps(name):
    model = ready(name)
    images = [pictures(1, seed) for seed in range(2)]
    with torch.no_grad():
        alone = [model(image) for image in images]
    wrong = []

    def look(which: int) -> None:
        torch.set_num_threads(1)
        with torch.no_grad():
            for _ in range(15):
                seen = model(images[which])
                same = [torch.equal(a, b) for a, b in zip(seen.stages, alone[which].stages, strict=True)]
                wrong.extend([which] * (not all(same) or not torch.equal(seen.logits, alone[which].logits)))

    threads = [threading.Thread(target=look, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(("name", "wanted"), [
    ("test_resnet", False), ("test_efficientnet", True), ("lambda_resnet26t", True)])
def test_grouped_and_three_dimensional_convolutions_are_trained_in_float32(name, wanted):
    assert wants_float32(spec(name)) is wanted
