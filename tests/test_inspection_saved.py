"""Explanations that are computed on the queue and kept with the run."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from made_runs import explained_spec, made
from small import distilled

from kd.datasets import open_dataset
from kd.errors import Stopped, UsageError
from kd.explainers import EXPLAINERS
from kd.inspection import saved
from kd.inspection.compare import compare
from kd.inspection.explain import explain
from kd.inspection.saved import SavedKey
from kd.paths import Paths
from kd.store.groups import Distillation
from kd.store.runs import Store


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Distillation:
    return distilled(Store(Paths(tmp_path_factory.mktemp("trained"))), depth=3)


@pytest.fixture
def runs(trio: Distillation) -> Store:
    return Store(Paths(trio.student.path.parents[1]))


def picture(trio: Distillation, number: int) -> np.ndarray:
    data = open_dataset(trio.student.spec.data, trio.student.spec.image_size, Paths(trio.student.path.parents[1]))
    return np.asarray(data.test.images[number])


def compute(runs: Store, run: object, wanted: SavedKey, said: list | None = None):
    heard = [] if said is None else said
    return saved.compute(runs, run, asdict(wanted), lambda *words: heard.append(words), lambda: False)


@pytest.mark.parametrize("explainer", ["grad-cam", "stage-maps", "occlusion"])
def test_what_is_kept_is_what_was_computed(trio, runs, explainer):
    wanted = SavedKey(explainer, 2, trio.teacher.summary["classes"][1], -1)
    assert saved.load(trio.student, wanted, picture(trio, 2)) is None
    said = []
    made = compute(runs, trio.student, wanted, said)
    found = saved.load(trio.student, wanted, picture(trio, 2))
    assert found.to_json() == made.to_json()
    assert np.array_equal(found.image, made.image)
    for one, other in zip(found.maps, made.maps, strict=True):
        assert np.array_equal(one.values, other.values)
        assert np.allclose(one.scaled, other.scaled)
    alone = explain(trio.student, picture(trio, 2), explainer, wanted.target, repeats=1)
    assert np.allclose(found.maps[0].values, alone.maps[0].values, atol=1e-6)
    assert said[0][1] == 0.0
    assert EXPLAINERS[explainer].info.title in said[0][0]


def test_another_picture_class_stage_or_weights_is_not_taken_for_it(trio, runs):
    classes = trio.teacher.summary["classes"]
    wanted = SavedKey("grad-cam", 0, classes[0])
    compute(runs, trio.control, wanted)
    assert saved.load(trio.control, wanted, picture(trio, 0)) is not None
    assert saved.load(trio.control, wanted, picture(trio, 1)) is None
    assert saved.load(trio.control, SavedKey("grad-cam", 0, classes[1]), picture(trio, 0)) is None
    assert saved.load(trio.control, SavedKey("grad-cam", 0, classes[0], -2), picture(trio, 0)) is None
    trio.control.weights.touch()
    assert saved.load(trio.control, wanted, picture(trio, 0)) is None


def test_stopping_keeps_nothing(trio, runs):
    wanted = SavedKey("stage-maps", 1, trio.teacher.summary["classes"][0])
    with pytest.raises(Stopped):
        saved.compute(runs, trio.teacher, asdict(wanted), lambda *_: None, lambda: True)
    assert saved.load(trio.teacher, wanted, picture(trio, 1)) is None


def test_a_kept_mask_is_shown_as_it_is_and_asked_of_no_model_without_one(trio, runs):
    classes = tuple(trio.teacher.summary["classes"])
    like = {name: getattr(trio.student.spec, name) for name in ("data", "data_fingerprint", "image_size")}
    student = made(runs, replace(explained_spec(trio.teacher), **like), classes)
    wanted = SavedKey("mask", 2, classes[0])
    fresh = compute(runs, student, wanted)
    found = saved.load(student, wanted, picture(trio, 2))
    assert found.to_json() == fresh.to_json()
    assert np.array_equal(found.maps[0].scaled, fresh.maps[0].values)
    with pytest.raises(UsageError, match="has no mask"):
        compute(runs, trio.student, wanted)
    assert saved.load(trio.student, wanted, picture(trio, 2)) is None


def test_an_image_that_is_not_there_is_named(trio, runs):
    with pytest.raises(UsageError, match="no test image 9999"):
        compute(runs, trio.student, SavedKey("grad-cam", 9999))


def test_kept_explanations_take_their_seats_in_a_comparison(trio, runs):
    image = picture(trio, 3)
    comparison = compare(runs, trio.student, image, repeats=1)
    wanted = SavedKey("stage-maps", 3, comparison.target, -2)
    found = {part.role: compute(runs, part.explanation.run, wanted) for part in comparison.panels}
    seated = saved.with_explanations(comparison, found)
    assert seated.explainer == "stage-maps"
    for part in seated.panels:
        assert part.explanation is found[part.role]
    assert seated.student.stage_maps is comparison.student.stage_maps
    assert seated.picture().startswith(b"\x89PNG")
