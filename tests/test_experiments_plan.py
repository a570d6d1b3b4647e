from dataclasses import fields, replace

import pytest
import torch
from made_runs import made
from made_sets import make_folder
from small import DATA, distilled, request, spec, trained

from kd import datasets
from kd.errors import UsageError
from kd.experiments.plan import (
    DistillSpec,
    epochs_for_fraction,
    method_warning,
    plan_first_seed,
    plan_runs,
    plan_single_run,
    plan_specs,
)
from kd.models import build, stage_count, weights
from kd.models.weights_files import read
from kd.spec import RunSpec
from kd.store.groups import control_of, control_spec, distillation_of, replicates_of
from kd.store.runs import Store


@pytest.fixture
def store():
    return Store()


def test_student_and_control_differ_in_method_and_teacher_only(store):
    teacher, control, student = plan_specs(request(), store)
    assert replace(student, method="supervised", method_args={}, teacher="") == control
    assert student.teacher == teacher.id
    assert student.method_args == {"alpha": 0.1, "temperature": 4.0}
    assert control.data_fingerprint == teacher.data_fingerprint != ""


def test_planning_twice_finds_the_same_runs(store):
    assert plan_first_seed(request(), store) == plan_first_seed(request(), store)
    assert len(list(store)) == 3


def test_the_control_and_trio_of_a_student_are_found_again(store):
    trio = plan_first_seed(request(), store)
    assert control_of(store, trio.student) == trio.control
    assert distillation_of(store, trio.student) == trio
    assert control_of(store, trio.teacher) is None
    store.delete(trio.control.id)
    assert distillation_of(store, trio.student) is None


def test_a_series_repeats_control_and_student_under_the_teacher_of_the_first_seed(store):
    made = plan_runs(request(seed=5, seeds=3), store)
    assert made.distillations[0] == plan_first_seed(request(seed=5), store)
    assert [run.spec.seed for run in made.runs] == [5, 5, 5, 6, 6, 7, 7]
    assert [run.spec.method for run in made.runs] == ["supervised", *["supervised", "kd"] * 3]
    assert {student.spec.teacher for _, student in made.pairs} == {made.teacher.id}
    for control, student in made.pairs:
        assert control_of(store, student) == control
    assert plan_runs(request(seed=5, seeds=4), store).pairs[:3] == made.pairs
    assert len(list(store)) == 9


def test_the_series_of_a_student_is_found_again_without_other_settings_or_teachers(store):
    made = plan_runs(request(seeds=3), store)
    plan_first_seed(request(depth=3), store)
    plan_first_seed(request(seed=1), store)  # trains a teacher of its own
    for trio in made.distillations:
        assert replicates_of(store, trio.student) == made
    assert replicates_of(store, made.pairs[0][0]) is None
    store.delete(made.pairs[1][0].id)
    assert replicates_of(store, made.distillations[0].student).pairs == (made.pairs[0], made.pairs[2])
    assert replicates_of(store, made.distillations[1].student) is None


@pytest.mark.parametrize("seeds", [0, 51, 1.5])
def test_how_many_seeds_there_can_be(seeds):
    with pytest.raises(UsageError, match="seeds must be"):
        request(seeds=seeds)


def test_teacher_and_student_can_have_their_own_recipes(store, tmp_path):
    path = tmp_path / "weights.safetensors"
    weights.save(build(RunSpec(model="test_resnet", image_size=32), 4), path)
    asked = request(teacher_weights=str(path), teacher_learning_rate=3e-4, teacher_batch_size=16, teacher_views=1,
                    frozen_stages=-1, backbone_rate=0.3, learning_rate=4e-3, schedule="cosine", weight_decay=0.01)
    teacher, control, student = plan_specs(asked, store)
    assert (teacher.learning_rate, teacher.batch_size, teacher.views) == (3e-4, 16, 1)
    assert (teacher.frozen_stages, teacher.backbone_rate) == (stage_count(teacher, 4) - 1, 0.3)
    assert (control.learning_rate, control.batch_size, control.views) == (4e-3, 8, 3)
    assert (student.frozen_stages, student.backbone_rate, student.pretrained) == (0, 1.0, "none")
    assert {one.schedule for one in (teacher, control, student)} == {"cosine"}
    assert {one.weight_decay for one in (teacher, control, student)} == {0.01}
    [usual, *_] = plan_specs(replace(asked, teacher_learning_rate=0, teacher_batch_size=0, teacher_views=-1), store)
    assert (usual.learning_rate, usual.batch_size, usual.views) == (5e-4, 8, 3)


def test_frozen_stages_without_pretrained_weights_are_refused(store):
    with pytest.raises(UsageError, match="frozen_stages is 3, but the model starts from random weights"):
        plan_specs(request(frozen_stages=3), store)
    with pytest.raises(UsageError, match="backbone_rate is 0.5, but the model starts from random weights"):
        plan_single_run({"data": DATA, "model": "test_resnet", "image_size": 32, "backbone_rate": 0.5}, store)


def test_a_finished_run_can_teach_again(store):
    first = distilled(store)
    again = plan_first_seed(request(teacher=first.teacher.id, depth=3), store)
    assert again.teacher == first.teacher
    assert again.student != first.student


def test_a_teacher_of_an_older_version_is_not_copied(store):
    first = distilled(store, epochs=1)
    older = first.teacher.path.rename(first.teacher.path.with_name("older-teacher"))
    again = plan_first_seed(request(epochs=1, teacher=older.name), store)
    assert again.teacher.path == older
    assert again.student.spec.teacher == "older-teacher"


def test_a_teacher_of_other_data_or_size_is_refused(store):
    teacher = trained(store, data_fingerprint=datasets.fingerprint(DATA, store.paths))
    with pytest.raises(UsageError, match="trained on other images"):
        plan_specs(request(teacher=teacher.id, data="phantom-brain:count=80"), store)
    with pytest.raises(UsageError, match="Set image_size to 32"):
        plan_specs(request(teacher=teacher.id, image_size=48), store)
    unfinished = store.create(spec(seed=9))
    with pytest.raises(UsageError, match="not finished"):
        plan_specs(request(teacher=unfinished.id), store)


@pytest.mark.parametrize(("change", "words"), [
    ({"teacher": "resnet81"}, "resnet18"),
    ({"student": "timm:resnet81"}, "resnet18"),
    ({"data": "/nowhere/at/all"}, "/nowhere/at/all"),
    ({"method": "supervised"}, "control arm"),
    ({"method": "kdd"}, "Did you mean 'kd'"),
    ({"method_args": {"alpha": 2}}, "alpha must be between"),
    ({"depth": 13}, "depth must be between 1 and 12"),
    ({"teacher_weights": "/no/such.pth"}, "/no/such.pth"),
    ({"student": "timm:test_resnet", "student_weights": "run:nothing"}, "the store .* is empty"),
])
def test_what_cannot_be_is_refused_before_anything_is_made(store, change, words):
    with pytest.raises(UsageError, match=words):
        plan_first_seed(request(**change), store)
    assert list(store) == []


def test_truncated_student_starts_from_its_teacher(store):
    truncated = {"student": "truncated", "student_weights": "teacher", "depth": 2}
    trio = plan_first_seed(request(**truncated), store)
    assert trio.control.spec.weights_run == trio.teacher.id
    with pytest.raises(UsageError, match="starts from the weights of .*, which is planned"):
        store.with_weights_file(trio.control.spec)
    with pytest.raises(UsageError, match=f"{trio.control.id} will start from the weights of {trio.teacher.id}"):
        delete_student_then(store, trio)
    trio = distilled(store, **truncated)
    assert trio.student.summary["parameters"] < trio.teacher.summary["parameters"]
    start = build(store.with_weights_file(trio.control.spec), classes=3).state_dict()
    trained = read(trio.teacher.weights).tensors
    kept = [name for name in start if name.startswith("net.") and not name.endswith("num_batches_tracked")]
    assert kept and all(torch.equal(start[name], trained[name.removeprefix("net.")]) for name in kept)
    again = plan_first_seed(request(teacher=trio.teacher.id, **truncated), store)
    assert again.runs == trio.runs


def delete_student_then(store, trio):
    store.delete(trio.student.id)
    store.delete(trio.teacher.id)


def test_timm_student(store):
    trio = distilled(store, student="timm:test_efficientnet", epochs=1)
    assert trio.student.spec.model == "test_efficientnet"


@pytest.mark.parametrize(("fraction", "equal_steps", "epochs"), [
    (1.0, 1.0, 2), (0.25, 0.0, 2), (0.25, 0.5, 4), (0.25, 1.0, 8), (0.3, 1.0, 7)])
def test_stretch_gives_less_data_more_passes_and_leaves_the_teacher(store, fraction, equal_steps, epochs):
    teacher, control, student = plan_specs(request(data_fraction=fraction, equal_steps=equal_steps), store)
    assert (teacher.epochs, teacher.data_fraction) == (2, 1.0)
    assert (control.epochs, student.epochs) == (epochs, epochs)
    assert control.data_fraction == fraction


def test_more_passes_than_a_run_can_have_are_refused(store):
    assert epochs_for_fraction(request(epochs=100, data_fraction=0.1, equal_steps=1.0)) == 1000
    with pytest.raises(UsageError, match="makes 1010 epochs of 101; a run has 1000 at most"):
        plan_specs(request(epochs=101, data_fraction=0.1, equal_steps=1.0), store)


def test_every_field_of_the_form_has_help():
    for item in fields(DistillSpec):
        assert item.metadata["help"].endswith("."), item.name


def test_single_gives_small_students_large_steps(store):
    plain = plan_single_run({"data": DATA, "model": "plain"}, store)
    large = plan_single_run({"data": DATA, "model": "test_resnet"}, store)
    assert plain.learning_rate > large.learning_rate
    assert plan_single_run({"data": DATA, "model": "plain", "learning_rate": 0.01}, store).learning_rate == 0.01
    assert plan_single_run({"data": DATA, "model": "timm:test_resnet"}, store) == large
    assert isinstance(large, RunSpec)


def test_an_explained_student_has_the_control_of_the_bare_one(store):
    teacher, control, student = plan_specs(request(method="medtex", mask_net_depth=2), store)
    assert (student.mask_net_depth, control.mask_net_depth, teacher.mask_net_depth) == (2, 0, 0)
    assert control == plan_specs(request(), store)[1] == control_spec(student)


def test_methods_on_two_classes_are_refused_or_explained(store):
    make_folder(store.paths.data / "two", {"a": 8, "b": 8})
    two = datasets.inspect("two", store.paths)
    assert method_warning(request(data="two"), two) == ""
    assert "two classes" in method_warning(request(data="two", method="dkd"), two)
    assert method_warning(request(method="dkd"), datasets.inspect(DATA, store.paths)) == ""
    assert plan_specs(request(data="two", method="dkd"), store)[2].method == "dkd"
    with pytest.raises(UsageError, match="cannot be had on two classes"):
        plan_specs(request(data="two", method="logit-std"), store)
    assert not list(store)


def test_out_of_fold_targets_take_the_teachers_recipe_without_each_fold(store):
    usual = plan_runs(request(), store)
    series = plan_runs(request(soft_targets="out-of-fold", folds=3, seeds=2), store)
    assert (series.teacher, series.pairs[0][0]) == (usual.teacher, usual.pairs[0][0])
    assert [replace(run.spec, folds=0, fold=0) for run in series.folds] == [series.teacher.spec] * 3
    assert [run.spec.fold for run in series.runs] == [0, 1, 2, 3, 0, 0, 0, 0]
    student = series.pairs[0][1].spec
    assert (student.soft_targets, student.folds, student.fold) == ("out-of-fold", 3, 0)
    assert student.id != usual.pairs[0][1].id
    assert replicates_of(store, series.pairs[0][1]) == series
    assert plan_runs(request(soft_targets="out-of-fold-uncorrected", folds=3), store).folds == series.folds
    assert plan_specs(request(folds=7), store)[2] == usual.pairs[0][1].spec  # idle without out-of-fold targets


def test_fold_teachers_of_a_finished_run_have_its_recipe(store):
    teacher = made(store, replace(plan_specs(request(), store)[0], seed=4, epochs=1))
    series = plan_runs(request(teacher=teacher.id, soft_targets="out-of-fold"), store)
    assert [run.spec for run in series.folds] == [replace(teacher.spec, folds=5, fold=fold) for fold in range(1, 6)]
