from contextlib import suppress

import pytest
import timm
from lanes import slow

from benchmarks.catalogue import sizes_of
from kd.errors import UsageError
from kd.models import search
from kd.models.catalogue import catalogue, listed, sizes_taken


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


@pytest.mark.parametrize("name", ["deit_", "beit", "crossvit", "xcit"])
def test_search_hides_networks_whose_answer_is_none_of_a_map(name):
    assert search(name) == []


SMALL = ("test_resnet", "test_byobnet", "test_mambaout", "test_maxvit", "mixnet_s", "lcnet_050")


@pytest.mark.parametrize("name", [*SMALL, *slow(*(name for name, _ in listed() if name not in SMALL))])
def test_what_is_listed_can_be_used_at_the_sizes_that_are_listed(name):
    assert sizes_of(name) == dict(listed())[name]


@pytest.mark.parametrize("name", ["test_vit", *slow(*sorted({*timm.list_models()} - {name for name, _ in listed()}))])
def test_what_is_not_listed_is_refused_or_takes_no_size(name):
    with suppress(UsageError):
        assert sizes_of(name) is None


def test_names_and_tags_of_the_hub_find_the_same():
    assert search("timm/resnet18") == search("timm:resnet18") == search("hf-hub:timm/resnet18") == search("resnet18")
    assert search("resnet18.a1_in1k") == search("resnet18")
    assert sizes_taken("timm/swin_tiny_patch4_window7_224.ms_in1k") == (224,)
    assert sizes_taken("resnet18") == sizes_taken("no such network") == ()


def test_every_listed_name_is_of_the_pinned_timm():
    assert {entry.name for entry in catalogue()} == {name for name, _ in listed()}
