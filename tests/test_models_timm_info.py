import pytest

from kd.errors import UsageError
from kd.models import require_cnn, search


@pytest.mark.parametrize(("name", "told"), [
    ("vit_tiny_patch16_224", "attention"), ("swin_tiny_patch4_window7_224", "attention"), ("test_mambaout", "grid"),
    ("mixer_b16_224", "224 px only"), ("resnet50_clip", "224 px only"), ("resnet19", "Did you mean 'resnet18'"),
    ("tf_efficientnet_b0_ns", "Use 'tf_efficientnet_b0.ns_jft_in1k'"), ("resnet18.nothing", "a1_in1k"),
    ("hf-hub:timm/resnet18", "Unknown timm model"), ("", "Unknown timm model")])
def test_what_is_no_cnn_of_timm_is_refused_with_a_sentence(name, told):
    with pytest.raises(UsageError, match=told):
        require_cnn(name)


def test_a_name_with_a_tag_is_accepted():
    assert require_cnn("test_resnet.r160_in1k") is None


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
    assert require_cnn(name) is None
