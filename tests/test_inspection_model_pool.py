import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from made_runs import CLASSES, CONTROL, TEACHER, made, picture

from kd.errors import UsageError
from kd.evaluation import predict
from kd.inspection import model_pool
from kd.inspection.model_pool import ModelPool, load_model, shared_pool
from kd.store.runs import Store


@pytest.fixture
def loads(monkeypatch):
    """The run ids that were loaded; loading takes a moment, so that threads meet."""
    seen = []

    def load(run, classes, original=predict.load):
        seen.append(run.id)
        time.sleep(0.05)
        return original(run, classes)

    monkeypatch.setattr(predict, "load", load)
    return seen


def test_many_threads_load_once_and_share(loads):
    run, models = made(Store(), TEACHER), ModelPool()
    gate = threading.Barrier(8)

    def ask(_):
        gate.wait()
        return models(run, len(CLASSES))

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(8)))
    assert loads == [run.id]
    assert all(model is found[0] for model in found)


def test_models_are_frozen_in_eval_mode_and_answer_as_their_file_says():
    run = made(Store(), TEACHER)
    model = ModelPool()(run, len(CLASSES))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    fresh, image = predict.load(run, len(CLASSES)), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(fresh(image).logits, model(image).logits)


def test_the_least_recently_used_is_dropped_and_the_newest_stays(loads):
    store = Store()
    runs = [made(store, replace(CONTROL, seed=seed)) for seed in range(3)]
    one = model_pool._bytes(predict.load(runs[0], len(CLASSES)))
    loads.clear()
    models = ModelPool(limit=2 * one)
    for run in (runs[0], runs[1], runs[0], runs[2], runs[0], runs[1]):
        models(run, len(CLASSES))
    assert loads == [runs[0].id, runs[1].id, runs[2].id, runs[1].id]
    assert len(models) == 2
    tiny = ModelPool(limit=1)
    assert tiny(runs[0], len(CLASSES)) is tiny(runs[0], len(CLASSES))
    tiny(runs[1], len(CLASSES))
    assert len(tiny) == 1


def test_new_weights_replace_the_old(loads):
    run, models = made(Store(), TEACHER), ModelPool()
    old = models(run, len(CLASSES))
    stamp = run.weights.stat().st_mtime_ns + 1_000_000
    os.utime(run.weights, ns=(stamp, stamp))
    assert models(run, len(CLASSES)) is not old
    assert len(models) == 1


def test_a_failed_load_is_told_to_all_and_tried_again(loads, monkeypatch):
    run, models = made(Store(), TEACHER), ModelPool()
    content = run.weights.read_bytes()
    run.weights.write_bytes(b"torn")
    with pytest.raises(Exception):  # noqa: B017 - whatever the reader of the file raises
        models(run, len(CLASSES))
    assert len(models) == 0
    run.weights.write_bytes(content)
    assert not models(run, len(CLASSES)).training


def test_a_run_without_weights_says_the_way_out():
    run = Store().create(TEACHER)
    with pytest.raises(UsageError, match="no weights yet"):
        load_model(run)


def test_an_unfinished_run_is_taken_at_its_best_weights_and_says_so():
    run = made(Store(), TEACHER, finished=False)
    run.log("cancelled")
    subject = load_model(run)
    assert subject.classes == CLASSES
    assert "is cancelled, not finished" in subject.note
    assert load_model(made(Store(), CONTROL)).note == ""


def test_a_run_that_does_not_say_its_classes_is_named():
    run = made(Store(), TEACHER, finished=False)
    (run.path / "events.jsonl").unlink()
    with pytest.raises(UsageError, match="which classes"):
        load_model(run)


def test_classes_go_by_name_and_by_number():
    subject = load_model(made(Store(), TEACHER))
    assert subject.class_number("none") == subject.class_number(2) == 2
    with pytest.raises(UsageError, match="Did you mean 'glioma'"):
        subject.class_number("gliom")
    for number in (-1, 3):
        with pytest.raises(UsageError, match="no class"):
            subject.class_number(number)
    with pytest.raises(UsageError, match=r"by its name or its number, not by 1\.0"):
        subject.class_number(1.0)


def test_probabilities_sum_to_one():
    assert load_model(made(Store(), TEACHER)).probabilities(picture()).sum() == pytest.approx(1)


def test_an_empty_pool_is_used_and_not_taken_for_none():
    run, models = made(Store(), TEACHER), ModelPool()
    assert load_model(run, models).model is models(run, len(CLASSES))
    assert len(models) == 1


def test_there_is_one_shared_pool():
    assert shared_pool() is shared_pool()
