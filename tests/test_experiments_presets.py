"""Presets: settings by what a person has, each still free."""

from dataclasses import fields

import pytest
from small import DATA, request

from kd.errors import UsageError
from kd.experiments.plan import DistillSpec, plan_single_run, plan_specs
from kd.experiments.presets import FEW, PRESETS, distillation_settings, run_settings, suggested
from kd.models import build, stage_count, weights
from kd.spec import RunSpec
from kd.store.runs import Store


@pytest.fixture
def start(tmp_path) -> str:
    path = tmp_path / "weights.safetensors"
    weights.save(build(RunSpec(model="test_resnet", image_size=32), 4), path)
    return str(path)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_planned_and_says_what_it_does(name, start):
    assert PRESETS[name].title and PRESETS[name].summary.endswith(".")
    settings = distillation_settings(name)
    assert set(settings) <= {item.name for item in fields(DistillSpec)}
    source = start if "pretrained" in name else "none"
    teacher, control, student = plan_specs(request(**{**settings, "teacher_weights": source, "depth": 2}), Store())
    for field, value in PRESETS[name].teacher.items():
        assert getattr(teacher, field) == (stage_count(teacher, 4) - 1 if value == -1 else value)
    for field, value in PRESETS[name].student.items():
        assert getattr(control, field) == getattr(student, field) == value


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("model", ["plain", "test_resnet"])
def test_every_preset_trains_one_network_too(name, model, start):
    source = start if "pretrained" in name and model != "plain" else "none"
    settings = {"data": DATA, "model": model, "pretrained": source, "image_size": 32, **run_settings(name, model)}
    assert plan_single_run(settings, Store()).epochs == run_settings(name, model).get("epochs", RunSpec().epochs)


def test_the_suggestion_follows_weights_and_images():
    assert {suggested(pretrained, images) for pretrained in (True, False) for images in (FEW, FEW + 1)} == set(PRESETS)
    assert suggested(True, 500) == "few-pretrained"


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="Did you mean 'few-pretrained'"):
        distillation_settings("few-pretrain")
