"""Frozen stages: what stays as it was, and that cached features train as the whole model does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lanes import slow
from safetensors.torch import load_file
from small import SIZE, small_data, spec

from kd.jobs.queue import execute
from kd.models import build, weights
from kd.spec import RunSpec
from kd.store.runs import Store
from kd.training import frozen_features
from kd.training.teacher import cache


@pytest.fixture
def store():
    found = Store()
    small_data(found.paths)
    return found


@pytest.fixture
def start(tmp_path):
    """Weights of a network with other classes, as pretrained ones are."""
    def save(name: str = "test_resnet") -> str:
        path = tmp_path / f"{name}.safetensors"
        if not path.exists():
            weights.save(build(RunSpec(model=name, image_size=SIZE, seed=3), 7), path)
        return str(path)

    return save


def frozen(path: str, **changes) -> RunSpec:
    return spec(**{"model": "test_resnet", "pretrained": path, "frozen_stages": 3, "views": 2, "epochs": 3,
                   "precision": "32-true", **changes})


def finished(store, about):
    run = store.create(about)
    assert execute(run, store) == "finished", run.failure_reason
    return run


def losses(run) -> list[float]:
    return [epoch[name] for epoch in run.epochs() for name in ("loss", "val_loss")]


def features_event(run):
    return run.last_event("frozen_features")


def test_training_on_cached_features_equals_training_with_the_whole_model(store, start, monkeypatch):
    cached = finished(store, frozen(start()))
    assert features_event(cached)["disabled"] == ""
    assert features_event(cached)["computed"] == 2 * len(small_data(store.paths).train)  # each view once in 3 epochs
    by_features = losses(cached)
    store.delete(cached.id)
    monkeypatch.setattr(frozen_features, "_obstacle", lambda *_: "for comparison")
    whole = finished(store, frozen(start()))
    assert features_event(whole)["disabled"] == "for comparison"
    np.testing.assert_allclose(by_features, losses(whole), rtol=2e-3)  # features are cached in half precision


def test_frozen_weights_and_statistics_stay_and_the_others_learn(store, start):
    run = finished(store, frozen(start(), epochs=1))
    model = build(run.spec, 4)
    after = {f"net.{name}": value for name, value in load_file(run.weights).items()}
    before = {f"net.{name}": value for name, value in load_file(start()).items()}
    kept = {name for name in before if any(name.startswith(f"{module}.") for module in model.frozen)}
    assert any("running_mean" in name for name in kept)
    assert all(torch.equal(before[name], after[name]) for name in kept)
    changed = {name for name in before if before[name].shape == after[name].shape
               and not torch.equal(before[name], after[name])}
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad} & set(before)
    assert trained - changed == {name for name in trained if before[name].shape != after[name].shape}


def test_another_seed_and_a_repetition_read_the_cached_features(store, start):
    finished(store, frozen(start()))
    other = finished(store, frozen(start(), seed=5))
    usage = features_event(other)
    assert (usage["misses"], usage["computed"]) == (0, 0)
    assert usage["hits"] == 2 * len(small_data(store.paths).train)
    assert finished(store, frozen(start(), frozen_stages=2)).last_event("frozen_features")["hits"] == 0


@pytest.mark.parametrize(("changes", "words"), [({"method": "at"}, "compares the features of stages"),
                                                *slow(({"method": "fitnet"}, "compares the features of stages"))])
def test_what_needs_the_whole_model_trains_with_it_and_says_so(store, start, changes, words):
    teacher = finished(store, spec(model="test_resnet", epochs=1))
    run = finished(store, frozen(start(), epochs=1, teacher=teacher.id, **changes))
    assert words in features_event(run)["disabled"]


def test_a_student_with_frozen_stages_learns_from_a_teacher(store, start):
    teacher = finished(store, spec(model="test_resnet", epochs=1))
    run = finished(store, frozen(start(), epochs=2, method="kd", teacher=teacher.id))
    assert features_event(run)["disabled"] == ""
    assert {"hard", "soft"} == set(run.epochs()[-1]["terms"])
    alone = finished(store, frozen(start(), epochs=2))
    assert run.epochs()[-1]["val_loss"] != alone.epochs()[-1]["val_loss"]


def test_without_room_features_are_computed_for_every_batch(store, start, monkeypatch):
    usual = losses(finished(store, frozen(start())))
    monkeypatch.setenv(cache.VARIABLE, "0")
    run = finished(store, replace(frozen(start()), weight_decay=0.051))
    assert cache.VARIABLE in features_event(run)["disabled"]
    assert features_event(run)["computed"] > 2 * len(small_data(store.paths).train)
    np.testing.assert_allclose(losses(run), usual, rtol=1e-3)


def test_features_in_use_are_not_removed_for_others(store, start):
    run = finished(store, frozen(start(), epochs=1))
    teacher = finished(store, spec(model="test_resnet", epochs=1))
    owner = cache.frozen_features_owner(store)
    [directory, _] = sorted(path.parent for path in (owner.path / cache.DIRECTORY).glob("*/meta.json"))
    other = store.create(frozen(start(), seed=9))
    with other.lock():
        assert not cache.discard(store, teacher.id, directory)
    assert cache.discard(store, run.id, directory)
    assert not directory.exists()


def test_fold_teachers_share_the_cached_features(store, start):
    about = frozen(start(), views=0)
    first, second = (finished(store, replace(about, folds=3, fold=fold)) for fold in (1, 2))
    count, left_out = len(small_data(store.paths).train), features_event(first)
    assert left_out["computed"] < count
    assert features_event(second)["computed"] == count - left_out["computed"]  # the images of the first fold
    assert load_file(first.weights).keys() == load_file(second.weights).keys()
