"""What a run trains on: labelled images, and others without their labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small import DATA, SIZE, explainer_of, request, small_data, spec, trained

from kd.datasets.base import UNLABELLED
from kd.datasets.tensors import read_images
from kd.datasets.unlabelled import inspect_unlabelled
from kd.errors import UsageError
from kd.experiments.plan import plan_specs
from kd.jobs.queue import execute
from kd.methods import METHODS, learns_unlabelled
from kd.store.groups import control_of, control_spec
from kd.store.runs import Store
from kd.training.image_counts import ImageCounts
from kd.training.subset import fold_of_images
from kd.training.teacher.cache import recorded_usage
from kd.training.teacher.out_of_fold import label_on_top
from kd.training.teacher.rows import estimate
from kd.training.training_images import training_images

ABLE = [name for name in METHODS if learns_unlabelled(name)]


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def data(store):
    return small_data(store.paths)


@pytest.fixture
def folder(tmp_path, data):
    """Ten images: two copies of test images, one of validation, one of training, and six of their own."""
    root = tmp_path / "ward"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (6, SIZE, SIZE, 3), np.uint8)
    images = [*data.test.images[:2], data.val.images[0], data.train.images[0], *noise]
    for number, image in enumerate(images):
        Image.fromarray(np.asarray(image)).save(root / f"{number}.png")
    return root


def with_folder(folder, store, **changes):
    about = inspect_unlabelled(str(folder), store.paths)
    return spec(unlabelled=about.reference, unlabelled_fingerprint=about.fingerprint, **changes)


def test_the_rest_keeps_its_numbers(store, data):
    found = training_images(spec(data_fraction=0.25, unlabelled="rest"), data, store.paths)
    plain = training_images(spec(data_fraction=0.25), data, store.paths)
    assert np.array_equal(found.labelled, plain.labelled)
    assert np.array_equal(np.sort([*found.labelled, *found.unlabelled]), np.arange(len(data.train)))
    assert found.fingerprint == plain.fingerprint == data.fingerprint
    assert found.counts == {"labelled": len(found.labelled), "unlabelled": len(data.train) - len(found.labelled)}


def test_a_folder_follows_the_train_split_without_copies_of_what_is_tested(store, data, folder):
    found = training_images(with_folder(folder, store), data, store.paths)
    assert found.counts == {"labelled": len(data.train), "unlabelled": 7, "tested_copies": 3}
    assert (found.split.labels[found.unlabelled] == UNLABELLED).all()
    assert found.fingerprint != data.fingerprint
    both = np.array([found.unlabelled[0], 5, found.unlabelled[-1]])
    images = read_images(found.split.images, both)
    assert np.array_equal(images[0], data.train.images[0])  # the first that is no copy
    assert np.array_equal(images[1], data.train.images[5])
    assert np.array_equal(images[2], np.asarray(Image.open(folder / "9.png")))


def test_patients_of_validation_and_test_are_left_out(store, data, folder):
    (folder / "groups.csv").write_text("file,group\n4.png,ours\n5.png,tested\n")
    groups = ("someone",) * (len(data.test) - 1)
    known = replace(data, test=replace(data.test, groups=("tested", *groups)))
    found = training_images(with_folder(folder, store), known, store.paths)
    assert (found.counts["tested_copies"], found.counts["tested_patients"]) == (3, 1)
    assert len(found.unlabelled) == 6


def test_copies_of_what_is_tested_alone_are_refused(store, data, folder):
    for number in range(3, 10):
        (folder / f"{number}.png").unlink()
    with pytest.raises(UsageError, match="Every unlabelled image is a copy"):
        training_images(with_folder(folder, store), data, store.paths)


@pytest.mark.parametrize("kind", ["rest", "folder"])
def test_a_student_learns_from_unlabelled_images_and_its_control_does_not(store, data, folder, kind):
    where = "rest" if kind == "rest" else str(folder)
    wanted = request(data_fraction=0.5, unlabelled=where, epochs=3, views=2)
    teacher, control, student = plan_specs(wanted, store)
    assert control == plan_specs(replace(wanted, unlabelled="none"), store)[1]
    assert control_spec(student) == control
    assert student.id != replace(student, unlabelled="none", unlabelled_fingerprint="").id
    runs = [store.create(one) for one in (teacher, control, student)]
    for run in runs:
        assert execute(run, store) == "finished", run.failure_reason
    assert control_of(store, runs[2]) == runs[1]
    counts = runs[2].summary["images"]
    assert counts["labelled"] == runs[1].summary["images"]["labelled"]
    assert counts["unlabelled"] == (len(data.train) - counts["labelled"] if kind == "rest" else 7)
    assert runs[2].summary["data"]["counts"] == runs[1].summary["data"]["counts"]
    assert all(np.isfinite(list(epoch["terms"].values())).all() for epoch in runs[2].epochs())
    first = recorded_usage(runs[2])
    assert first["misses"] > 0
    assert first["disabled"] == ""
    again = store.create(replace(student, seed=1))
    assert execute(again, store) == "finished"
    assert recorded_usage(again)["misses"] < first["misses"] / 3  # the same views of the same images


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].needs_teacher and name not in ABLE])
def test_a_method_that_needs_labels_says_so(store, data, method):
    with pytest.raises(UsageError, match=r"needs the label of every image.*choose one of: kd, "):
        plan_specs(request(method=method, data_fraction=0.5, unlabelled="rest"), store)
    teacher = trained(store, model="test_resnet", epochs=1)
    run = store.create(spec(method=method, teacher=teacher.id, unlabelled="rest", data_fraction=0.5,
                            **explainer_of(method)))
    assert execute(run, store) == "failed"
    assert "needs the label of every image" in run.failure_reason


def test_a_folders_images_move_no_other_between_folds_and_are_not_corrected(store, data, folder):
    about = spec(folds=3, fold=1)
    joined = training_images(with_folder(folder, store), data, store.paths).within(data)
    found = fold_of_images(about, joined)
    assert np.array_equal(found[:len(data.train)], fold_of_images(about, data))
    assert len(found) == len(joined.train)
    assert set(found) == {1, 2, 3}
    logits = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    assert label_on_top(logits, torch.tensor([-1, 0])).tolist() == [[1, 2, 3], [3, 2, 1]]


def test_specs_without_unlabelled_images_keep_their_ids():
    assert spec(data=DATA, unlabelled="none", unlabelled_fingerprint="").id == spec(data=DATA).id


def test_mixup_is_the_control_s_too_and_the_teachers_answers_are_cached(store, data):
    wanted = request(mixup=1.0, augmentation=1.0, views=2, data_fraction=0.5, unlabelled="rest")
    teacher, control, student = plan_specs(wanted, store)
    assert (teacher.mixup, control.mixup, student.mixup) == (0, 1, 1)
    assert control_spec(student) == control
    runs = [store.create(one) for one in (teacher, control, student, replace(student, seed=1))]
    for run in runs:
        assert execute(run, store) == "finished", run.failure_reason
    assert recorded_usage(runs[3])["misses"] < recorded_usage(runs[2])["misses"] / 3
    assert estimate(student, teacher, 4, ImageCounts.of(student, len(data.train)), store).passes < len(data.train) / 3
    plain = replace(student, mixup=0.0)
    assert estimate(plain, teacher, 4, ImageCounts.of(plain, len(data.train)), store).passes == len(data.train)


@pytest.mark.parametrize("changes", [{"method": "dkd"}, {"method": "medtex"}, {"views": 0},
                                     {"soft_targets": "out-of-fold"}])
def test_mixup_is_refused_where_it_means_nothing(store, data, changes):
    with pytest.raises(UsageError, match="mixup to 0"):
        plan_specs(request(**{"mixup": 0.2, **changes}), store)


def test_the_teachers_labels_are_smoothed_and_not_the_students(store, data):
    teacher, control, student = plan_specs(request(teacher_label_smoothing=0.1), store)
    assert (teacher.label_smoothing, control.label_smoothing, student.label_smoothing) == (0.1, 0, 0)
    with pytest.raises(UsageError, match=r"label_smoothing is 0.1.*Set it to 0"):
        replace(student, label_smoothing=0.1)
