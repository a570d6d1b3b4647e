import json
from dataclasses import replace

import numpy as np
import pytest
from made_runs import made_trio

from kd import appraisals
from kd.appraisals import AGREEMENT, LOCALISATION, Choice
from kd.errors import UsageError
from kd.runs import Store, write_json

CHOICE = Choice("grad-cam", limit=20)
RESULT = {"maps": {"student": {"all": {"spearman": {"excess": {"mean": 0.25}}}}}}
ARRAYS = {"index": np.array([4, 7, 9, 11]), "names": np.array(["d", "g", "i", "k"]),
          "student_spearman": np.array([0.5, np.nan, -0.2, 0.1]), "student_distance": np.array([0.1, np.nan, 0.4, 0.2])}


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def kept(store):
    _, _, student = made_trio(store)
    appraisals.keep(student, CHOICE, AGREEMENT, appraisals.cast(store, student), RESULT, ARRAYS)
    return student


def test_what_is_kept_is_found(store, kept):
    runs = appraisals.cast(store, kept)
    assert list(runs) == ["teacher", "control", "student"]
    assert appraisals.find(kept, CHOICE, AGREEMENT, runs) == RESULT
    assert appraisals.values(kept, CHOICE, AGREEMENT, runs)["index"].tolist() == [4, 7, 9, 11]
    found = appraisals.read(store, kept, CHOICE)
    assert found["agreement"] == RESULT
    assert found["localisation"] is found["cost"] is None
    assert found["models"]["student"]["run"] == kept.id
    assert appraisals.choices(kept) == [CHOICE]


@pytest.mark.parametrize("role", ["teacher", "control", "student"])
def test_other_weights_make_it_stale(store, kept, role):
    runs = appraisals.cast(store, kept)
    runs[role].weights.write_bytes(b"others")
    assert appraisals.find(kept, CHOICE, AGREEMENT, runs) is None
    assert appraisals.values(kept, CHOICE, AGREEMENT, runs) is None
    assert appraisals.read(store, kept, CHOICE) is None


def test_a_copy_of_the_same_weights_is_no_change(store, kept):
    content = kept.weights.read_bytes()
    kept.weights.unlink()
    kept.weights.write_bytes(content)
    assert appraisals.read(store, kept, CHOICE) is not None


def test_a_control_that_goes_makes_it_stale(store, kept):
    store.delete(appraisals.cast(store, kept)["control"].id)
    assert list(appraisals.cast(store, kept)) == ["teacher", "student"]
    assert appraisals.read(store, kept, CHOICE) is None


def test_another_version_of_the_numbers_makes_it_stale(store, kept, monkeypatch):
    monkeypatch.setattr(appraisals, "VERSION", appraisals.VERSION + 1)
    assert appraisals.read(store, kept, CHOICE) is None


@pytest.mark.parametrize("change", [{"limit": 21}, {"stage": 0}, {"seed": 1}, {"explainer": "stage-maps"}])
def test_every_choice_is_kept_apart(store, kept, change):
    assert appraisals.read(store, kept, replace(CHOICE, **change)) is None


def test_a_limit_above_the_test_set_means_all():
    run = made_trio(Store())[0]
    write_json(run.path / "evaluation.json", {"images": 20})
    assert Choice(limit=20).of(run).limit == Choice(limit=900).of(run).limit == 0
    assert Choice(limit=19).of(run).limit == 19
    with pytest.raises(UsageError, match="limit"):
        Choice(limit=-1)


def test_a_new_result_replaces_the_old_one_with_its_arrays(store, kept):
    runs = appraisals.cast(store, kept)
    appraisals.keep(kept, CHOICE, AGREEMENT, runs, {"maps": {}}, {"index": np.array([1])})
    assert appraisals.find(kept, CHOICE, AGREEMENT, runs) == {"maps": {}}
    assert appraisals.values(kept, CHOICE, AGREEMENT, runs)["index"].tolist() == [1]
    assert len(list(kept.path.glob("appraisals/*/*.npz"))) == 1


def test_a_torn_or_foreign_file_is_as_none(store, kept):
    [path] = kept.path.glob("appraisals/*/agreement.json")
    content = path.read_text()
    path.write_text(content[:50])
    assert appraisals.read(store, kept, CHOICE) is None
    assert appraisals.choices(kept) == []
    path.write_text(json.dumps({"choice": {"what": 1}}))
    assert appraisals.choices(kept) == []
    path.write_text(content)
    next(kept.path.glob("appraisals/*/*.npz")).unlink()
    assert appraisals.values(kept, CHOICE, AGREEMENT, appraisals.cast(store, kept)) is None


def test_one_models_sections_are_shared_by_its_students(store, kept):
    teacher = appraisals.cast(store, kept)["teacher"]
    appraisals.keep(teacher, CHOICE, LOCALISATION, {"model": teacher}, {"images": 3}, {})
    assert appraisals.read(store, kept, CHOICE)["localisation"] == {"teacher": {"images": 3}}
    assert appraisals.read(store, teacher, CHOICE)["localisation"] == {"model": {"images": 3}}


def test_the_least_agreeing_images_come_worst_first(store, kept):
    found = appraisals.least_agreeing(store, kept, CHOICE, 2)
    assert [(case.index, case.name, case.value) for case in found] == [(9, "i", -0.2), (11, "k", 0.1)]
    far = appraisals.least_agreeing(store, kept, CHOICE, measure="distance")
    assert [case.name for case in far] == ["i", "k", "d"]
    assert appraisals.least_agreeing(store, kept, CHOICE, role="control") == []
    assert appraisals.least_agreeing(store, kept, replace(CHOICE, seed=5)) == []


def test_rows_hold_the_main_numbers(store, kept):
    rows = appraisals.rows("grad-cam", appraisals.read(store, kept, CHOICE))
    assert rows == [{"explainer": "grad-cam", "model": "teacher"}, {"explainer": "grad-cam", "model": "control"},
                    {"explainer": "grad-cam", "model": "student", "over_chance": 0.25}]
