"""Presets: settings by what a person has, each still free."""

from dataclasses import fields

import pytest
from small import DATA, request

from kd import datasets
from kd.errors import UsageError
from kd.experiments.plan import DistillSpec, plan_single_run, plan_specs
from kd.experiments.presets import FEW, PRESETS, distillation_settings, run_settings, suggested, with_preset
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
    settings = distillation_settings(name, {"teacher": "test_resnet"})
    assert set(settings) <= {item.name for item in fields(DistillSpec)}
    source = start if "pretrained" in name else "none"
    teacher, control, student = plan_specs(request(**{"depth": 2, **settings, "teacher_weights": source}), Store())
    for field, value in PRESETS[name].teacher.items():
        assert getattr(teacher, field) == (stage_count(teacher, 4) - 1 if value == -1 else value)
    own = PRESETS[name].pretrained_student if "pretrained" in name else PRESETS[name].random_student
    for field, value in own.items():
        assert getattr(control, field) == getattr(student, field) == value
    if PRESETS[name].first_stages:
        assert (control.base, control.depth, control.weights_run) == ("test_resnet", 3, teacher.id)
    else:
        assert (control.model, control.pretrained) == ("plain", "none")


@pytest.mark.parametrize(("given", "family", "rate"), [
    ({}, "truncated", 1e-3), ({"student": "truncated"}, "truncated", 1e-3), ({"student": "plain"}, "plain", 4e-3),
    ({"student": "timm:test_resnet"}, "timm:test_resnet", 4e-3), ({"student_weights": "none"}, "truncated", 4e-3),
    ({"student": "timm:test_resnet", "student_weights": "hub"}, "timm:test_resnet", 1e-3),
    ({"learning_rate": 0.5}, "truncated", 0.5)])
def test_the_students_settings_follow_from_its_family_and_weights(given, family, rate, start):
    given = {"data": DATA, "teacher": "test_resnet", "teacher_weights": start, **given}
    found = with_preset("suggested", given, datasets.inspect(DATA, Store().paths), Store())
    assert (found.get("student", "plain"), found["learning_rate"]) == (family, rate)
    assert found.items() >= given.items()


@pytest.mark.parametrize(("images", "teacher", "student"), [(280, 10, 51), (838, 4, 20), (FEW, 4, 20), (1, 1000, 1000)])
def test_a_small_set_has_more_epochs(images, teacher, student):
    found = distillation_settings("few-pretrained", {"teacher": "test_resnet"}, images)
    assert (found["teacher_epochs"], found["epochs"]) == (teacher, student)


def test_the_suggestion_looks_at_the_weights_of_a_teacher_that_is_a_run(start):
    store = Store()
    data = datasets.inspect(DATA, store.paths)
    for source, family in (("none", None), (start, "truncated")):
        run = store.create(plan_single_run({"data": DATA, "model": "test_resnet", "pretrained": source}, store))
        assert with_preset("suggested", {"teacher": run.id}, data, store).get("student") == family
        assert with_preset("none", {"teacher": run.id}, data, store) == {"teacher": run.id}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("model", ["plain", "test_resnet"])
def test_every_preset_trains_one_network_too(name, model, start):
    source = start if "pretrained" in name and model != "plain" else "none"
    own = run_settings(name, model, source != "none")
    settings = {"data": DATA, "model": model, "pretrained": source, "image_size": 32, **own}
    assert plan_single_run(settings, Store()).epochs == own.get("epochs", RunSpec().epochs)


def test_the_suggestion_follows_weights_and_images():
    assert {suggested(pretrained, images) for pretrained in (True, False) for images in (FEW, FEW + 1)} == set(PRESETS)
    assert suggested(True, 500) == "few-pretrained"


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="Did you mean 'few-pretrained'"):
        distillation_settings("few-pretrain", {"teacher": "test_resnet"})
