"""Many ask at once, and one of them trains: the maps are right, and the training does not notice."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, cycle, islice
from threading import Event, Thread

import numpy as np
import pytest
from made_runs import CLASSES, TEACHER, explained_spec, made, picture
from safetensors.numpy import load_file
from small import spec, trained

from kd.explainers import EXPLAINERS
from kd.inspection.explain import explain
from kd.inspection.model_pool import ModelPool
from kd.models import build_untrained
from kd.store.runs import Store
from kd.training.loop import train

THREADS, EACH = 8, 25

pytestmark = pytest.mark.usefixtures("few_samples")


def masked(store):
    """A student behind a mask, for the one explainer that asks for one."""
    return made(store, explained_spec(made(store, replace(TEACHER, seed=9))))


@pytest.mark.parametrize("model", ["test_resnet", "plain"])
def test_eight_threads_with_25_explanations_each_equal_one_thread(model):
    run, student, pool = made(Store(), replace(TEACHER, model=model)), masked(Store()), ModelPool()
    stages = len(build_untrained(run.spec, len(CLASSES)).stages)
    work = [(name, number % 5, number % len(CLASSES), number % stages)
            for number, name in zip(range(THREADS * EACH), cycle(EXPLAINERS), strict=False)]

    def maps_of(job):
        name, seed, target, stage = job
        asked, stage = (student, -1) if name == "mask" else (run, stage)
        return explain(asked, picture(seed), name, target, stage, 1, pool).maps[0].values

    expected = {job: maps_of(job) for job in dict.fromkeys(work)}
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(lambda first: [maps_of(job) for job in work[first::THREADS]], range(THREADS)))
    for first, part in enumerate(found):
        for job, values in zip(work[first::THREADS], part, strict=True):
            assert np.array_equal(values, expected[job], equal_nan=True), job
    assert len(pool) == 2


def weights_of(run):
    return load_file(run.weights)


@pytest.mark.parametrize("model", ["plain", "test_resnet"])
def test_training_does_not_notice_who_explains_it_every_second_step(model):
    settings = spec(model=model, epochs=6, seed=4)
    undisturbed = trained(Store(), **vars(settings))
    expected, verdict = weights_of(undisturbed), undisturbed.summary["val_loss"]
    Store().delete(undisturbed.id)

    store = Store()
    other, student, run = made(store, TEACHER), masked(store), store.create(settings)
    steps, names, explained = count(), cycle(EXPLAINERS), []

    def explain_in_between():
        """Asked between two batches, as pages do while the run trains; the run itself once it has weights."""
        if next(steps) % 2 == 0:
            asked = run if run.weights.exists() else other
            explained.extend((asked.id, explain(student if name == "mask" else asked, picture(), name,
                                                repeats=1).explainer) for name in islice(names, 2))
        return False

    train(run, store, explain_in_between)
    assert {name for asked, name in explained if asked == run.id} == set(EXPLAINERS)
    found = weights_of(run)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert run.summary["val_loss"] == verdict


def test_training_does_not_notice_a_thread_that_explains_all_the_while():
    settings = spec(epochs=3, seed=5)
    undisturbed = trained(Store(), **vars(settings))
    expected = weights_of(undisturbed)
    Store().delete(undisturbed.id)

    store = Store()
    other, student, run = made(store, TEACHER), masked(store), store.create(settings)
    done, explained = Event(), []

    def meanwhile():
        for name in cycle(EXPLAINERS):
            if done.is_set():
                return
            asked = run if run.weights.exists() else other
            explained.append(explain(student if name == "mask" else asked, picture(), name, repeats=1).run.id)

    thread = Thread(target=meanwhile)
    thread.start()
    try:
        train(run, store)
    finally:
        done.set()
        thread.join()
    assert len(explained) > 5
    found = weights_of(run)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_no_explainer_keeps_a_model_alive_that_the_pool_has_dropped():
    store, pool, models = Store(), ModelPool(limit=1), []
    for seed, name in enumerate(EXPLAINERS):
        run = masked(store) if name == "mask" else made(store, replace(TEACHER, seed=seed))
        explain(run, picture(), name, repeats=1, pool=pool)
        models.append(weakref.ref(pool(run, len(CLASSES))))
    gc.collect()
    assert [model() is not None for model in models] == [False] * (len(models) - 1) + [True]
