"""What a distillation will ask of the machine."""

import pytest
from fabricate import summarise
from small import DATA, distilled, request

from kd.datasets import inspect
from kd.experiments import estimate as module
from kd.experiments.estimate import ResourceEstimate, RunEstimate, estimate_resources
from kd.experiments.plan import plan_specs
from kd.experiments.step_benchmark import StepBenchmark
from kd.models import build, weights
from kd.spec import RunSpec
from kd.store.files import write_json
from kd.store.runs import Store


def foretell(store: Store, **changes) -> ResourceEstimate:
    return estimate_resources(plan_specs(request(**changes), store), inspect(DATA), store)


def test_a_new_distillation_costs_time_memory_and_disk_and_says_how_it_knows():
    found = foretell(Store())
    assert [need.role for need in found.run_estimates] == ["teacher", "control", "student"]
    assert all(need.seconds > 0 and "timed on this machine" in need.basis for need in found.run_estimates)
    assert found.seconds == pytest.approx(sum(need.seconds for need in found.run_estimates))
    assert found.images == round(0.7 * 60)
    assert found.memory > 0
    assert found.disk > 60 * 32**2 * 3


def test_time_grows_with_epochs_and_with_the_share_of_the_data():
    store = Store()
    short, long = foretell(store, epochs=2), foretell(store, epochs=20)
    assert [need.seconds for need in long.run_estimates[:2]] == pytest.approx(
        [10 * need.seconds for need in short.run_estimates[:2]]
    )
    part = foretell(store, data_fraction=0.5)
    assert part.run_estimates[0].seconds == pytest.approx(short.run_estimates[0].seconds)
    assert part.run_estimates[2].seconds < short.run_estimates[2].seconds


def test_a_student_costs_its_teachers_forward_pass_on_top_of_the_control():
    needs = foretell(Store()).run_estimates
    assert needs[2].seconds > needs[1].seconds


def test_every_seed_of_control_and_student_counts_but_the_teacher_once():
    store = Store()
    planned, about = plan_specs(request(), store), inspect(DATA)
    once, often = (estimate_resources(planned, about, store, seeds).run_estimates for seeds in (1, 3))
    assert [need.runs for need in often] == [1, 3, 3]
    assert once[2].teacher_seconds > 0
    assert [need.seconds for need in often] == pytest.approx([
        number * (need.seconds - need.teacher_seconds) + need.teacher_seconds
        for number, need in zip((1, 3, 3), once, strict=True)])
    summarise(store.create(planned[1]), seconds=1.0)
    assert estimate_resources(planned, about, store, 3).run_estimates[1].runs == 2


def test_views_are_asked_about_once_and_every_epoch_where_nothing_is_kept(monkeypatch):
    store = Store()
    few, many = (foretell(store, epochs=20, views=views) for views in (2, 20))
    control, student = few.run_estimates[1].seconds, few.run_estimates[2].seconds
    assert student - control == pytest.approx((many.run_estimates[2].seconds - control) / 10)
    assert few.disk < many.disk
    monkeypatch.setenv("KD_LENS_TEACHER_CACHE_GB", "0")
    live = foretell(store, epochs=20, views=2)
    assert live.run_estimates[2].seconds == pytest.approx(many.run_estimates[2].seconds)
    assert (live.run_estimates[2].teacher_seconds, live.run_estimates[2].cache_bytes) == (0, 0)


def test_what_the_teacher_said_before_is_not_asked_again():
    store = Store()
    trio = distilled(store)
    assert trio.student.last_event("teacher_cache")["computed"] == 2 * sum(
        trio.teacher.summary["data"]["counts"]["train"]
    )
    again, other = (foretell(store, seed=1, teacher=trio.teacher.id, views=views).run_estimates[2] for views in (3, 0))
    assert again.teacher_seconds == again.cache_bytes == 0
    assert other.teacher_seconds > 0
    assert other.cache_bytes > 0


def test_what_has_finished_costs_nothing_and_like_runs_are_the_measure():
    store = Store()
    trio = distilled(store)
    again = foretell(store)
    assert again.seconds == again.disk == 0
    assert all(need.finished for need in again.run_estimates)
    summary = trio.teacher.summary
    write_json(trio.teacher.path / "summary.json", {**summary, "seconds": 2 * 42.0})
    longer = foretell(store, seed=1, epochs=4).run_estimates[0]
    assert trio.teacher.id in longer.basis
    images = sum(summary["data"]["counts"]["train"])
    assert longer.seconds == pytest.approx(4 * images * 84 / (2 * images))


def test_another_size_is_not_measured_by_a_finished_run():
    store = Store()
    distilled(store)
    assert all("timed" in need.basis for need in foretell(store, image_size=40).run_estimates)


def test_a_run_in_another_arithmetic_does_not_foretell_this_one():
    store = Store()
    distilled(store, precision="32-true")
    assert "timed" not in foretell(store, seed=1, precision="32-true").run_estimates[0].basis
    assert all("timed" in need.basis for need in foretell(store, seed=1, precision="bf16-mixed").run_estimates)
    assert all("timed" in need.basis for need in foretell(store, seed=1, precision="32-true", threads=2).run_estimates)


def test_too_little_memory_or_disk_is_said_with_a_way_out():
    needs = (RunEstimate("teacher", 1.0, "", False),)
    assert ResourceEstimate(needs, 10, 5, 10, 5, 10).warnings == ()
    tight = ResourceEstimate(needs, 10, 50, 10, 50, 10).warnings
    assert "smaller batch" in tight[0]
    assert "Delete runs" in tight[1]
    assert ResourceEstimate(needs, 10, 50, None, 5, 10).warnings == ()


def test_free_disk_is_asked_of_the_nearest_folder_that_exists(tmp_path):
    assert module._free_disk(tmp_path / "not" / "yet") > 0


def made_up(spec, classes, frozen=False):
    """Seconds that add up by hand, whatever else the machine does."""
    if frozen:
        return StepBenchmark(0.25, 0.125, activation_bytes=100, parameters=10, images=32, features=8.0)
    return StepBenchmark(4.0 if spec.mask_area else 1.0, 0.5, activation_bytes=100, parameters=10, images=32)


def test_frozen_stages_are_computed_once_for_each_view(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "benchmark_step", made_up)
    path = tmp_path / "weights.safetensors"
    weights.save(build(RunSpec(model="test_resnet", image_size=32), 4), path)
    store = Store()
    about = {"teacher_weights": str(path), "frozen_stages": 3, "teacher_views": 2, "epochs": 10}
    found = foretell(store, **about)
    teacher, validated = found.run_estimates[0], found.images / 7
    assert teacher.seconds == pytest.approx(found.images * (10 * 0.25 + 2 * 8.0) + validated * (10 * 0.125 + 8.0))
    assert teacher.cache_bytes > 0
    assert "frozen stages once for each view" in teacher.basis
    monkeypatch.setenv("KD_LENS_TEACHER_CACHE_GB", "0")
    live = foretell(store, **about).run_estimates[0]
    assert live.seconds == pytest.approx(teacher.seconds + found.images * 8 * 8.0)
    assert live.cache_bytes == 0


def test_the_teachers_sensitivity_maps_are_computed_once(monkeypatch):
    monkeypatch.setattr(module, "benchmark_step", made_up)
    store = Store()
    ordinary, masked = foretell(store), foretell(store, method="medtex")
    seen = 2 * ordinary.images  # in two epochs; the teacher looks at each view once, and each epoch ends in validation
    validated, taught = seen / 7 * 0.5, seen * 0.5
    assert ordinary.run_estimates[2].seconds == pytest.approx(seen * 1.0 + validated + taught)
    maps = module.MAP_PASSES * ordinary.images * 0.5
    assert masked.run_estimates[2].seconds == pytest.approx(seen * 4.0 + validated + taught + maps)
    assert masked.run_estimates[1].seconds == pytest.approx(seen * 1.0 + validated), "the control has no mask network"
    outlined = foretell(store, method="medtex", mask_target="outlines")
    assert outlined.run_estimates[2].seconds == pytest.approx(seen * 4.0 + validated + taught)


def test_an_explained_student_takes_more_memory_and_disk():
    store = Store()
    ordinary, explained = foretell(store), foretell(store, method="medtex")
    assert explained.disk > ordinary.disk, "the explainer's own weights"
    assert foretell(store, method="medtex", mask_net_width=64).memory > ordinary.memory


def test_an_explained_run_measures_only_those_that_ask_as_much():
    store = Store()
    trio = distilled(store, method="medtex")
    again = foretell(store, method="medtex", seed=1, teacher=trio.teacher.id).run_estimates[2]
    assert trio.student.id in again.basis
    other = foretell(store, method="medtex", seed=1, teacher=trio.teacher.id, mask_net_width=16).run_estimates[2]
    assert "timed" in other.basis


def test_fold_teachers_take_the_teachers_time_without_a_fold_and_share_its_features(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "benchmark_step", made_up)
    path = tmp_path / "weights.safetensors"
    weights.save(build(RunSpec(model="test_resnet", image_size=32), 4), path)
    about = {"teacher_weights": str(path), "frozen_stages": 3, "teacher_views": 2, "epochs": 10}
    found = foretell(Store(), **about, soft_targets="out-of-fold", folds=4)
    teacher, folds, *_ = found.run_estimates
    assert (folds.role, folds.runs, folds.cache_bytes) == ("fold teacher", 4, 0)
    each = found.images * 10 * 0.25 * 3 / 4 + found.images / 7 * 10 * 0.125
    assert folds.seconds == pytest.approx(4 * each)
    plain = foretell(Store(), **about)
    assert teacher == plain.run_estimates[0]
    assert found.run_estimates[2:] == plain.run_estimates[1:]
    assert (found.disk, found.memory) > (plain.disk, plain.memory)
