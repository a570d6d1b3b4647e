"""The working size where nobody chose one."""

from dataclasses import replace
from itertools import pairwise

import pytest
from made_sets import make_folder
from small import request

from kd import datasets
from kd.datasets import DataRef
from kd.errors import UsageError
from kd.experiments import estimate
from kd.experiments.plan import DistillSpec, plan_specs
from kd.experiments.sweep import Sweep
from kd.experiments.working_size import (
    BUDGET,
    SIZES,
    recommended,
    run_with_sizes,
    sweep_with_sizes,
    with_sizes,
)
from kd.store.runs import Store

DATA = DataRef("set", "0", ("a", "b"), 30, 500)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def data(store: Store) -> DataRef:
    """Images of 300 px."""
    return datasets.inspect(str(make_folder(store.paths.data / "set", {"a": 10, "b": 10}, (300, 200))), store.paths)


@pytest.fixture
def forecast(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds by the forecast: as many at 224 px, and fewer at fewer pixels."""
    found = {"at 224 px": BUDGET / 2}

    def seconds(spec, *_):
        return found["at 224 px"] * (spec.image_size / 224) ** 2

    monkeypatch.setattr(estimate, "estimate_run", seconds)
    monkeypatch.setattr(estimate, "estimate_resources",
                        lambda specs, *_: type("Estimate", (), {"seconds": seconds(specs[0])}))
    return found


@pytest.mark.parametrize(("share", "size"), [(0.9, 224), (1.5, 160), (2.5, 128), (4, 96), (100, 96)])
def test_it_is_the_largest_that_the_forecast_allows(share, size):
    found = recommended(DATA, lambda side: (False, share * BUDGET * (side / 224) ** 2))
    assert found.size == size
    assert found.reason.startswith(f"{size} px: by the forecast, training takes about ")
    assert ("which is more than an hour" in found.reason) == (share in (1.5, 2.5, 4))
    assert ("more at every larger size" in found.reason) == (share == 100)


@pytest.mark.parametrize(("side", "size"), [(28, 96), (96, 96), (97, 128), (150, 160), (200, 224), (4000, 224)])
def test_it_enlarges_no_images(side, size):
    assert recommended(replace(DATA, side=side), lambda _: (False, 1.0)).size == size


def test_small_images_and_drawn_ones_need_no_forecast():
    for side, words in ((28, "have 28 px"), (0, "drawn at the size asked for")):
        found = recommended(replace(DATA, side=side), lambda _: pytest.fail("asked"))
        assert found.size == 96 and words in found.reason


def test_what_has_been_trained_is_used_again_whatever_the_forecast_says_now():
    found = recommended(DATA, lambda side: (side == 128, 2 * BUDGET))
    assert found.size == 128 and "has been trained" in found.reason


def test_every_smaller_size_is_a_candidate():
    assert all(one > other for one, other in pairwise(SIZES))
    asked = []
    recommended(DATA, lambda side: (bool(asked.append(side)), 2 * BUDGET))
    assert asked == list(SIZES)
    asked.clear()
    recommended(DATA, lambda side: (bool(asked.append(side)), 2 * BUDGET), least=150)
    assert asked == [224, 160]


def test_a_distillation_gets_both_sizes_and_explicit_values_win(store, data, forecast):
    wanted = request(data=data.reference)
    found, reason = with_sizes(wanted, {"data"}, store, data)
    assert (found.image_size, found.student_size) == (224, 96) and "30 minutes" in reason
    assert with_sizes(wanted, {"image_size"}, store, data) == (wanted, "")
    found, _ = with_sizes(replace(wanted, student_size=200), {"student_size"}, store, data)
    assert (found.image_size, found.student_size) == (224, 200)
    teacher, control, student = plan_specs(found, store, data)
    assert (teacher.input_size, control.input_size, student.input_size) == (0, 200, 200)
    assert {teacher.image_size, control.image_size, student.image_size} == {224}
    forecast["at 224 px"] = 10 * BUDGET
    found, _ = with_sizes(wanted, {"data"}, store, data)
    assert (found.image_size, found.student_size) == (96, 0)
    store.create(teacher)
    assert with_sizes(wanted, {"data"}, store, data)[0].image_size == 224


def test_a_teacher_that_is_a_run_gives_its_size(store, data, forecast):
    teacher = store.create(plan_specs(request(data=data.reference, image_size=160), store, data)[0])
    found, reason = with_sizes(request(data=data.reference, teacher=teacher.id), {"data"}, store, data)
    assert (found.image_size, found.student_size) == (160, 96) and "as the teacher's images" in reason


def test_a_sweep_is_sized_as_one_distillation(store, data, forecast):
    wanted = Sweep(request(data=data.reference), {"depth": (2, 3)})
    found, reason = sweep_with_sizes(wanted, {"data"}, store, data)
    assert (found.base.image_size, found.base.student_size, found.axes) == (224, 96, wanted.axes) and reason
    wanted = Sweep(request(data=data.reference), {"student_size": (64, 96)})
    found, _ = sweep_with_sizes(wanted, {"data"}, store, data)
    assert (found.base.image_size, found.base.student_size) == (224, 0)
    assert found.axes == {"student_size": (64, 96)}


def test_a_single_run_is_sized_too(store, data, forecast):
    settings = {"data": data.reference, "model": "test_resnet"}
    assert run_with_sizes(settings, store, data)[0] == {**settings, "image_size": 224, "input_size": 0}
    settings = {"data": data.reference, "model": "plain"}
    assert run_with_sizes(settings, store, data)[0] == {**settings, "image_size": 224, "input_size": 96}
    assert run_with_sizes({**settings, "image_size": 64}, store, data) == ({**settings, "image_size": 64}, "")


def test_enlarging_for_the_student_is_refused(store, data):
    with pytest.raises(UsageError, match="student_size is 128 px, but the images have 96 px"):
        plan_specs(DistillSpec(data=data.reference, image_size=96, student_size=128), store, data)


def test_sweeps_of_before_keep_their_ids():
    assert Sweep(DistillSpec(), {"depth": (3, 5)}).id == "phantom_brain-depth-cf95249b12"


@pytest.mark.parametrize(("given", "size"), [
    ({"image_size": 224}, 80), ({"image_size": 224, "student_size": 224}, 224), ({"image_size": 224, "depth": 4}, 48),
    ({"image_size": 64}, 48), ({"image_size": 40}, 0)])
def test_a_student_of_first_stages_has_a_twentieth_of_the_teachers_flops(store, data, given, size):
    wanted = {"data": data.reference, "teacher": "mobilenetv2_100", "student": "truncated", "depth": 2, **given}
    found, reason = with_sizes(DistillSpec(**wanted), wanted, store, data)
    assert (found.image_size, found.student_size, reason) == (given["image_size"], size % 224 or given.get(
        "student_size", 0), "")


def test_a_network_of_one_size_gets_that_size(store, data, forecast):
    swin, halonet = "swin_tiny_patch4_window7_224", "halonet26t"  # of 224 px alone; of 256 px and more
    forecast["at 224 px"] = 10 * BUDGET  # any other network would get 96 px
    drawn = DataRef("phantom-brain", "0", ("a", "b"), 30, 0)
    for name, size in ((swin, 224), (f"timm/{halonet}", 256)):
        for ref in (data, drawn):
            found, reason = run_with_sizes({"data": ref.reference, "model": name}, store, ref)
            assert found["image_size"] == size and reason.startswith(f"{size} px")
        assert "takes no smaller ones" in reason
    found, _ = run_with_sizes({"data": data.reference, "model": "truncated", "base": swin, "depth": 2}, store, data)
    assert (found["image_size"], found["input_size"]) == (224, 0)
    wanted = request(data=data.reference, teacher="test_resnet", student=swin)
    found, _ = with_sizes(wanted, {"data"}, store, data)
    assert (found.image_size, found.student_size) == (224, 0)
    assert {spec.image_size for spec in plan_specs(found, store, data)} == {224}
