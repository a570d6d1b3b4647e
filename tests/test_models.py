import copy
import pickle
import threading
from functools import cache

import pytest
import timm
import torch

from kd.errors import UsageError
from kd.models import build, check_cnn, search, skeleton
from kd.models.base import Classifier
from kd.models.capture import capture
from kd.spec import RunSpec

# One of each way in which timm networks differ: where stages lie, what they return, what stands in the head.
FAMILIES = ("test_resnet", "resnet10t", "densenet121", "mobilenetv2_100", "efficientnet_b0", "regnety_002",
            "convnext_atto", "mobilenetv3_small_050", "ghostnet_050", "inception_v3", "repvgg_a0", "hrnet_w18_small",
            "legacy_xception", "selecsls42", "nf_resnet26", "resnetv2_18", "dla34")
NOT_POOLED_LINEAR = {"convnext_atto", "mobilenetv3_small_050", "ghostnet_050", "resnetv2_18", "dla34"}
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
    mean, std = (torch.tensor(reference.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = reference((pictures() - mean) / std)
        observed = ready(name)(pictures())
    assert torch.equal(observed.logits, expected)
    assert torch.equal(ready(name).head(observed.stages[-1].clone()), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_linear_layer_is_offered_exactly_where_the_head_is_pooling_and_that_layer(name):
    model = ready(name)
    assert (model.linear is None) == (name in NOT_POOLED_LINEAR)
    if model.linear is not None:
        with torch.no_grad():
            logits, maps, *_ = model(pictures())
            assert torch.allclose(model.linear(maps[-1].mean((2, 3))), logits, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_later_layer_writes_into_a_stage(name):
    model = ready(name)
    scaled = (pictures() - model.mean) / model.std
    count = len(model.stages) - 1
    with torch.no_grad():
        whole = model.extract(scaled)
        for stage in range(count):
            _, maps = capture(model.net.forward_features, scaled, count, stop=stage)
            assert torch.equal(maps[stage], whole[stage])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_stage_has_a_gradient(name):
    logits, maps, *_ = ready(name)(pictures().requires_grad_())
    gradients = torch.autograd.grad(logits[:, 0].sum(), maps)
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)


def test_vgg_whose_head_wants_a_larger_grid_takes_small_pictures_all_the_same():
    model = build(spec("vgg11", image_size=32), classes=3).eval()
    with torch.no_grad():
        logits, maps, *_ = model(torch.rand(1, 3, 32, 32))
    assert logits.shape == (1, 3)
    assert [features.shape[-1] for features in maps] == [32, 16, 8, 4, 2, 1]
    assert model.linear is None


@pytest.mark.parametrize("name", ["test_resnet", "densenet121"])
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


@pytest.mark.parametrize("name", ["plain", "test_resnet", "densenet121"])
def test_a_seed_gives_the_same_weights_while_others_build_and_draw(name):
    expected = build(spec(name, seed=5), classes=3).state_dict()
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            torch.rand(100)
            build(spec("test_resnet", seed=9), classes=3)

    other = threading.Thread(target=disturb)
    other.start()
    try:
        again = build(spec(name, seed=5), classes=3).state_dict()
    finally:
        stop.set()
        other.join()
    assert all(torch.equal(again[key], value) for key, value in expected.items())
    different = build(spec(name, seed=6), classes=3).state_dict()
    assert any(not torch.equal(different[key], value) for key, value in expected.items())


@pytest.mark.parametrize("make", [build, skeleton])
@pytest.mark.parametrize("changes", [{"model": "plain"}, {"model": "test_resnet"},
                                     {"model": "truncated", "base": "test_resnet", "depth": 2}])
def test_the_global_generator_stays_where_it_is(make, changes):
    before = torch.get_rng_state()
    make(RunSpec(image_size=SIZE, **changes), classes=3)
    assert torch.equal(before, torch.get_rng_state())


def test_a_skeleton_is_the_same_architecture_and_needs_no_weights():
    model = skeleton(spec("test_resnet", pretrained="/nowhere/weights.pth"), classes=3)
    assert model.state_dict().keys() == ready("test_resnet").state_dict().keys()


@pytest.mark.parametrize("name", ["plain", "test_resnet", "densenet121"])
@pytest.mark.parametrize("reproduce", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
                         ids=["copied", "pickled"])
def test_a_reproduced_model_observes_the_same(name, reproduce):
    again = reproduce(ready(name))
    with torch.no_grad():
        expected, observed = ready(name)(pictures()), again(pictures())
    assert torch.equal(observed.logits, expected.logits)
    assert all(torch.equal(a, b) for a, b in zip(observed.stages, expected.stages, strict=True))


@pytest.mark.parametrize(("model", "choice", "mean"), [
    ("test_resnet", "imagenet", 0.485), ("test_resnet", "half", 0.5), ("inception_v3", "model", 0.485),
    ("plain", "model", 0.5), ("plain", "imagenet", 0.485)])
def test_the_input_scaling_is_chosen_by_the_spec(model, choice, mean):
    built = skeleton(spec(model, normalisation=choice), classes=3)
    if choice == "model" and model != "plain":
        mean = timm.get_pretrained_cfg(model).mean[0]
    assert built.mean.flatten()[0].item() == pytest.approx(mean)
    black = torch.zeros(1, 3, SIZE, SIZE)
    with torch.no_grad():
        maps = built.eval().extract((black - built.mean) / built.std)
        assert torch.equal(built(black).stages[0], maps[0])


@pytest.mark.parametrize(("name", "told"), [
    ("vit_tiny_patch16_224", "attention"), ("swin_tiny_patch4_window7_224", "attention"), ("test_mambaout", "grid"),
    ("mixer_b16_224", "224 px only"), ("resnet50_clip", "224 px only"), ("resnet19", "Did you mean 'resnet18'"),
    ("tf_efficientnet_b0_ns", "Use 'tf_efficientnet_b0.ns_jft_in1k'"), ("resnet18.nothing", "a1_in1k"),
    ("hf-hub:timm/resnet18", "Unknown timm model"), ("", "Unknown timm model")])
def test_what_is_no_cnn_of_timm_is_refused_with_a_sentence(name, told):
    with pytest.raises(UsageError, match=told):
        check_cnn(name)


def test_a_name_with_a_tag_is_accepted():
    assert check_cnn("test_resnet.r160_in1k") is None


def test_a_picture_too_small_for_a_network_is_refused_with_a_size_that_works():
    with pytest.raises(UsageError, match="Set the image size to 75 px"):
        build(spec("inception_v3", image_size=32), classes=3)


def test_search_finds_by_part_of_a_name_by_pattern_and_everything():
    everything = [entry.name for entry in search()]
    assert len(everything) > 500
    assert len(set(everything)) == len(everything)
    assert {"resnet18", "densenet121", "mobilenetv2_100", "vgg16", "convnext_tiny", "inception_v3"} <= {*everything}
    assert [entry.name for entry in search("DenseNet1*")] == ["densenet121", "densenet161", "densenet169"]
    assert all("resnet" in entry.name for entry in search("resnet"))
    assert search("resnet", limit=1)[0].name.startswith("resnet")
    assert search("no such network") == []


def test_search_says_whether_timm_has_weights():
    hub = {entry.name: entry.hub for entry in search("densenet")}
    assert hub["densenet121"]
    assert not hub["densenet264d"]


@pytest.mark.parametrize("name", ["vit_base", "swin", "deit", "mixer_", "maxvit", "pvt_", "eva0", "beit"])
def test_search_hides_transformers(name):
    assert search(name) == []


@pytest.mark.parametrize("name", ["edgenext_xx_small", "test_byobnet", "starnet_s1", "cspresnet50", "mixnet_s",
                                  "tresnet_m", "lcnet_050", "rexnet_100"])
def test_what_search_lists_can_be_used(name):
    assert name in [entry.name for entry in search(name)]
    assert check_cnn(name) is None
