"""Out-of-fold soft targets: whose they are, what corrects them, and what they cost once only."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from made_runs import made
from small import distilled, request, small_data, spec

from kd.errors import UsageError
from kd.experiments.plan import plan_first_seed
from kd.jobs.queue import execute
from kd.methods import METHODS
from kd.spec import OUT_OF_FOLD, UNCORRECTED
from kd.store.groups import distillation_of
from kd.store.runs import Store
from kd.training.batches import TrainBatches
from kd.training.image_counts import ImageCounts
from kd.training.subset import fold_of_images, labelled_images
from kd.training.teacher import cache, target_scores
from kd.training.teacher.cached_teacher import build_method_and_teacher
from kd.training.teacher.out_of_fold import label_on_top
from kd.training.teacher.rows import chunk_size, estimate

FOLDS = 3


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def data(store):
    return small_data(store.paths)


@pytest.fixture
def teacher(store, data):
    """A teacher and its fold teachers, all with other weights."""
    teacher = made(store, spec(model="test_resnet"), data.classes)
    for wanted in student(teacher).fold_teachers(teacher.spec):
        fold = made(store, replace(wanted, seed=wanted.fold), data.classes)
        weights, summary = fold.weights.read_bytes(), (fold.path / "summary.json").read_bytes()
        own = store.create(wanted)
        own.weights.write_bytes(weights)
        (own.path / "summary.json").write_bytes(summary)
        store.delete(fold.id)
    return teacher


def student(teacher, **changes):
    return spec(**{"method": "kd", "teacher": teacher.id, "soft_targets": OUT_OF_FOLD, "folds": FOLDS,
                   "precision": "32-true", **changes})


def out_of_fold(store, data, about):
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return build_method_and_teacher(about, store, data, fabric, lambda *_, **__: None)[1]


def logits(store, data, about, epochs=1):
    """Logits by image, as a student of this spec gets them, and its labels."""
    found = out_of_fold(store, data, about)
    found.enable_cache(store, store.create(about), [(np.arange(len(data.train)), about.epochs)])
    batches = TrainBatches(data.train, np.arange(len(data.train)), 8, about.seed, about.views, data.info.flip, 0.25)
    given = {}
    for epoch in range(epochs):
        for batch, outputs in found.batches(batches, epoch):
            given |= {(epoch, int(number)): (images, row, label) for number, images, row, label in zip(
                batch.numbers, batch.images, outputs["logits"], batch.target, strict=True)}
    return found, given


def test_the_label_changes_places_with_a_wrong_answer():
    given = torch.tensor([[1.0, 5.0, 3.0], [4.0, 2.0, 0.0]])
    assert torch.equal(label_on_top(given, torch.tensor([2, 0])), torch.tensor([[1.0, 3.0, 5.0], [4.0, 2.0, 0.0]]))
    assert torch.equal(given[0], torch.tensor([1.0, 5.0, 3.0]))


def test_every_image_is_answered_by_the_network_trained_without_it(store, data, teacher):
    about = student(teacher, soft_targets=UNCORRECTED)
    found, given = logits(store, data, about)
    folds = fold_of_images(found.runs[0].spec, data)
    assert [run.spec.fold for run in found.runs] == [1, 2, 3]
    for (_, number), (images, row, _) in given.items():
        model = found.network(folds[number] - 1)
        assert number not in labelled_images(found.runs[folds[number] - 1].spec, data)
        with torch.no_grad():
            torch.testing.assert_close(row, model(images[None]).logits[0], rtol=1e-3, atol=1e-3)
    right = np.mean([float(row.argmax() == label) for _, row, label in given.values()])
    assert found.epoch_scores() == {target_scores.ACCURACY: pytest.approx(right)}


def test_correction_puts_every_label_on_top_and_shares_the_cache(store, data, teacher, monkeypatch):
    passes = []
    raw, plain = logits(store, data, student(teacher, soft_targets=UNCORRECTED), epochs=2)
    assert raw.computed == 2 * len(data.train)
    monkeypatch.setattr(type(raw), "network", lambda *_: passes.append(1))
    kept, corrected = logits(store, data, student(teacher), epochs=2)
    assert (kept.computed, passes) == (0, [])
    assert all(int(row.argmax()) == int(label) for _, row, label in corrected.values())
    assert all(torch.equal(row.sort().values, corrected[key][1].sort().values) for key, (_, row, _) in plain.items())
    assert kept.epoch_scores() == raw.epoch_scores()
    assert cache.cache_bytes(teacher) > 0


def test_networks_are_computed_in_full_chunks(store, data, teacher, monkeypatch):
    found, lengths = out_of_fold(store, data, student(teacher)), []
    real = type(found).compute
    monkeypatch.setattr(type(found), "compute", lambda self, images, network: lengths.append(
        (network, len(images))) or real(self, images, network))
    batches = TrainBatches(data.train, np.arange(len(data.train)), 8, 0, 3, data.info.flip, 0.25)
    list(found.batches(batches, 0))
    assert sorted(lengths) == [(network, chunk_size("cpu")) for network in range(FOLDS)]  # 44 images of three folds


def test_a_forecast_finds_the_cached_rows(store, data, teacher):
    about = replace(student(teacher, epochs=1), data_fingerprint=data.fingerprint)
    before = estimate(about, teacher.spec, len(data.classes), ImageCounts.of(about, len(data.train)), store)
    logits(store, data, about)
    assert before.passes == len(data.train)
    assert estimate(about, teacher.spec, len(data.classes), ImageCounts.of(about, len(data.train)), store).passes == 0
    assert estimate(replace(about, soft_targets="teacher", folds=0), teacher.spec, len(data.classes),
                    ImageCounts.of(about, len(data.train)),
                    store).passes == len(data.train)


def test_a_fold_teacher_that_is_missing_or_has_changed_is_named(store, data, teacher):
    found = out_of_fold(store, data, student(teacher))
    found.runs[1].weights.write_bytes(found.runs[0].weights.read_bytes())
    with pytest.raises(UsageError, match="fold_2_of_3.* changed"):
        found.network(1)
    found.runs[1].weights.unlink()
    (found.runs[1].path / "summary.json").unlink()
    with pytest.raises(UsageError, match="fold_2_of_3.* is planned"):
        out_of_fold(store, data, student(teacher))


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].needs_teacher])
def test_a_method_that_needs_more_than_logits_is_refused(store, data, teacher, method):
    if METHODS[method].needs_logits_only():
        assert plan_first_seed(request(method=method, soft_targets=OUT_OF_FOLD), store).folds
        assert out_of_fold(store, data, student(teacher, method=method)).formats.keys() == {"logits"}
        return
    with pytest.raises(UsageError, match="needs more of its teacher"):
        plan_first_seed(request(method=method, soft_targets=OUT_OF_FOLD), store)
    masks = {"mask_net_depth": 1, "mask_area": 0.2} if METHODS[method].needs_mask_net else {}
    with pytest.raises(UsageError, match="needs more of its teacher"):
        out_of_fold(store, data, student(teacher, method=method, **masks))


def test_a_distillation_out_of_fold_from_beginning_to_end(store):
    trio = distilled(store, soft_targets=OUT_OF_FOLD, folds=2, epochs=1)
    assert [run.spec.fold for run in trio.runs] == [0, 1, 2, 0, 0]
    assert [run.id.split("-")[2] for run in trio.folds] == ["fold_1_of_2", "fold_2_of_2"]
    assert distillation_of(store, trio.student) == trio
    entry = trio.student.summary["out_of_fold"]
    assert entry["folds"] == 2
    assert entry["corrected"] == pytest.approx(1 - entry["accuracy"])
    assert entry["accuracy"] == trio.student.epochs()[0]["target_accuracy"]
    assert "of 2 networks: right for" in target_scores.sentence(trio.student.summary)
    assert target_scores.sentence(trio.control.summary) == ""
    beside = plan_first_seed(request(soft_targets=UNCORRECTED, folds=2, epochs=1), store)
    assert (beside.folds, beside.control) == (trio.folds, trio.control)
    assert execute(beside.student, store) == "finished"
    assert beside.student.last_event("teacher_cache")["misses"] == 0
    assert beside.student.summary["out_of_fold"]["corrected"] == 0
