import json
from dataclasses import replace

import numpy as np
import pytest
from made_runs import CONTROL, TEACHER, made, made_trio, student_spec

from kd.errors import UsageError
from kd.evaluation import explanation_store
from kd.evaluation.explanation_store import AGREEMENT, COST, EVIDENCE, LOCALISATION, POSTHOC, EvalKey
from kd.store.files import write_json
from kd.store.runs import Store

CHOICE = EvalKey("grad-cam", limit=20)
RESULT = {"maps": {"student": {"all": {"spearman": {"excess": {"mean": 0.25}}}}}}
ARRAYS = {"index": np.array([4, 7, 9, 11]), "names": np.array(["d", "g", "i", "k"]),
          "student_spearman": np.array([0.5, np.nan, -0.2, 0.1]), "student_distance": np.array([0.1, np.nan, 0.4, 0.2])}


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def kept(store):
    _, _, student = made_trio(store)
    explanation_store.save(student, CHOICE, AGREEMENT, explanation_store.compared_runs(store, student), RESULT, ARRAYS)
    return student


def test_what_is_kept_is_found(store, kept):
    runs = explanation_store.compared_runs(store, kept)
    assert list(runs) == ["teacher", "control", "student"]
    assert explanation_store.load(kept, CHOICE, AGREEMENT, runs) == RESULT
    assert explanation_store.load_arrays(kept, CHOICE, AGREEMENT, runs)["index"].tolist() == [4, 7, 9, 11]
    found = explanation_store.load_all(store, kept, CHOICE)
    assert found["agreement"] == RESULT
    assert found["localisation"] is found["cost"] is None
    assert found["models"]["student"]["run"] == kept.id
    assert explanation_store.choices(kept) == [CHOICE]


@pytest.mark.parametrize("role", ["teacher", "control", "student"])
def test_other_weights_make_it_stale(store, kept, role):
    runs = explanation_store.compared_runs(store, kept)
    runs[role].weights.write_bytes(b"others")
    assert explanation_store.load(kept, CHOICE, AGREEMENT, runs) is None
    assert explanation_store.load_arrays(kept, CHOICE, AGREEMENT, runs) is None
    assert explanation_store.load_all(store, kept, CHOICE) is None


def test_a_copy_of_the_same_weights_is_no_change(store, kept):
    content = kept.weights.read_bytes()
    kept.weights.unlink()
    kept.weights.write_bytes(content)
    assert explanation_store.load_all(store, kept, CHOICE) is not None


def test_a_control_that_goes_makes_it_stale(store, kept):
    store.delete(explanation_store.compared_runs(store, kept)["control"].id)
    assert list(explanation_store.compared_runs(store, kept)) == ["teacher", "student"]
    assert explanation_store.load_all(store, kept, CHOICE) is None


def test_another_version_of_the_numbers_makes_it_stale(store, kept, monkeypatch):
    monkeypatch.setattr(explanation_store, "VERSION", explanation_store.VERSION + 1)
    assert explanation_store.load_all(store, kept, CHOICE) is None


@pytest.mark.parametrize("change", [{"limit": 21}, {"stage": 0}, {"seed": 1}, {"explainer": "stage-maps"}])
def test_every_choice_is_kept_apart(store, kept, change):
    assert explanation_store.load_all(store, kept, replace(CHOICE, **change)) is None


def test_a_limit_above_the_test_set_means_all():
    run = made_trio(Store())[0]
    write_json(run.path / "evaluation.json", {"images": 20})
    assert EvalKey(limit=20).of(run).limit == EvalKey(limit=900).of(run).limit == 0
    assert EvalKey(limit=19).of(run).limit == 19
    with pytest.raises(UsageError, match="limit"):
        EvalKey(limit=-1)
    with pytest.raises(UsageError, match="seed"):
        EvalKey(seed=-1)


def test_a_new_result_replaces_the_old_one_with_its_arrays(store, kept):
    runs = explanation_store.compared_runs(store, kept)
    explanation_store.save(kept, CHOICE, AGREEMENT, runs, {"maps": {}}, {"index": np.array([1])})
    assert explanation_store.load(kept, CHOICE, AGREEMENT, runs) == {"maps": {}}
    assert explanation_store.load_arrays(kept, CHOICE, AGREEMENT, runs)["index"].tolist() == [1]
    assert len(list(kept.path.glob("appraisals/*/*.npz"))) == 1


def test_a_torn_or_foreign_file_is_as_none(store, kept):
    [path] = kept.path.glob("appraisals/*/agreement.json")
    content = path.read_text()
    path.write_text(content[:50])
    assert explanation_store.load_all(store, kept, CHOICE) is None
    assert explanation_store.choices(kept) == []
    path.write_text(json.dumps({"choice": {"what": 1}}))
    assert explanation_store.choices(kept) == []
    path.write_text(content)
    next(kept.path.glob("appraisals/*/*.npz")).unlink()
    assert explanation_store.load_arrays(kept, CHOICE, AGREEMENT, explanation_store.compared_runs(store, kept)) is None


def test_one_models_sections_are_shared_by_its_students(store, kept):
    teacher = explanation_store.compared_runs(store, kept)["teacher"]
    explanation_store.save(teacher, CHOICE, LOCALISATION, {"model": teacher}, {"images": 3}, {})
    assert explanation_store.load_all(store, kept, CHOICE)["localisation"] == {"teacher": {"images": 3}}
    assert explanation_store.load_all(store, teacher, CHOICE)["localisation"] == {"model": {"images": 3}}


def test_the_least_agreeing_images_come_worst_first(store, kept):
    found = explanation_store.least_agreeing(store, kept, CHOICE, 2)
    assert list(found.items()) == [(9, -0.2), (11, 0.1)]
    far = explanation_store.least_agreeing(store, kept, CHOICE, measure="distance")
    assert list(far) == [9, 11, 4]
    assert explanation_store.least_agreeing(store, kept, CHOICE, role="control") == {}
    assert explanation_store.least_agreeing(store, kept, replace(CHOICE, seed=5)) == {}


def test_rows_hold_the_main_numbers(store, kept):
    rows = explanation_store.rows(explanation_store.load_all(store, kept, CHOICE))
    assert rows == [{"explainer": "grad-cam", "model": "teacher"}, {"explainer": "grad-cam", "model": "control"},
                    {"explainer": "grad-cam", "model": "student", "over_chance": 0.25}]


MASK = EvalKey("mask", limit=20)


def value(mean):
    return {"mean": mean, "low": mean, "high": mean, "n": 9}


@pytest.fixture
def explained(store):
    """A student with a mask network, beside a teacher and a control without."""
    teacher = made(store, TEACHER)
    made(store, CONTROL)
    spec = student_spec(teacher)
    return made(store, replace(spec, method="medtex", method_args={}, mask_net_depth=2, mask_net_width=4))


def test_who_has_no_mask_is_judged_by_grad_cam_and_that_is_kept_as_grad_cam(store, explained):
    runs = explanation_store.compared_runs(store, explained)
    assert {role: MASK.suited(run).explainer for role, run in runs.items()} == {
        "teacher": "grad-cam", "control": "grad-cam", "student": "mask"}
    assert replace(MASK, explainer="layer-cam").suited(explained).explainer == "layer-cam"
    explanation_store.save(runs["teacher"], CHOICE, LOCALISATION, {"model": runs["teacher"]}, {"images": 3}, {})
    explanation_store.save(explained, MASK, LOCALISATION, {"student": explained}, {"images": 4}, {})
    found = explanation_store.load_all(store, explained, MASK)
    assert found["localisation"] == {"teacher": {"images": 3}, "student": {"images": 4}}
    assert [one["explainer"] for one in found["models"].values()] == ["grad-cam", "grad-cam", "mask"]
    assert "teacher and the control have no mask" in found["notes"][0]
    assert "two explainers" in found["notes"][1]
    other = explanation_store.load_all(store, explained, CHOICE)
    assert (other["localisation"], other["notes"]) == ({"teacher": {"images": 3}}, [])
    outlined = made(store, replace(explained.spec, mask_target="outlines"))
    assert "trained with the outlines" in explanation_store.load_all(store, outlined, MASK)["notes"][2]


def test_the_suited_explainer_is_that_of_the_models(store, explained):
    from kd.explainers import EXPLAINERS, explainer_for
    from kd.models import build_untrained

    for run in explanation_store.compared_runs(store, explained).values():
        model = build_untrained(run.spec, 3)
        assert all(EvalKey(name).suited(run).explainer == explainer_for(name, model) for name in EXPLAINERS)


def test_posthoc_hangs_on_teacher_and_student_and_is_of_the_mask_alone(store, explained):
    runs = explanation_store.compared_runs(store, explained)
    assert list(explanation_store.depends_on(MASK, POSTHOC, runs)) == ["teacher", "student"]
    assert explanation_store.depends_on(CHOICE, POSTHOC, runs) == {}
    assert list(explanation_store.depends_on(MASK, COST, runs)) == ["teacher", "control", "student"]
    assert explanation_store.depends_on(MASK, AGREEMENT, {"model": runs["teacher"]}) == {}
    explanation_store.save(
        explained, MASK, POSTHOC, explanation_store.depends_on(MASK, POSTHOC, runs), {"images": 4}, {}
    )
    runs["control"].weights.write_bytes(b"others")
    found = explanation_store.load_all(store, explained, MASK)
    assert found["post-hoc"] == {"images": 4}
    assert "post-hoc" in found["sections"]
    runs["teacher"].weights.write_bytes(b"others")
    assert explanation_store.load_all(store, explained, MASK) is None


def test_posthoc_is_not_missed_where_it_cannot_be(store, kept):
    found = explanation_store.load_all(store, kept, CHOICE)
    assert found["post-hoc"] is None
    assert found["sections"] == ["agreement", "localisation", "evidence", "faithfulness", "cost"]


def test_the_need_of_the_evidence_depends_on_no_explainer(store, kept):
    key = CHOICE.stored(EVIDENCE, kept)
    assert key == replace(MASK, limit=20).stored(EVIDENCE, kept) != CHOICE
    needed = {"images": 3, "kept": {name: value(0.5) for name in ("without", "mirrored", "alone", "blurred")}}
    explanation_store.save(kept, key, EVIDENCE, {"student": kept}, needed, {})
    for choice in (CHOICE, replace(CHOICE, explainer="layer-cam", stage=-2)):
        found = explanation_store.load_all(store, kept, choice)
        assert found["evidence"] == {"student": needed}
        assert explanation_store.rows(found)[-1] | dict.fromkeys(needed["kept"], 0.5) == (
            explanation_store.rows(found)[-1])
    assert explanation_store.choices(kept) == [CHOICE], "it belongs to the choices of the same images"
    explanation_store.save(kept, replace(key, limit=30), EVIDENCE, {"student": kept}, needed, {})
    assert explanation_store.choices(kept) == [CHOICE, replace(CHOICE, limit=30)]


def test_an_explainers_own_stage_has_a_folder_of_its_own():
    assert EvalKey("sensitivity", "default", 5).folder == "sensitivity.default.5.seed0"
    assert EvalKey("sensitivity", -1).folder == "sensitivity.last1.all.seed0"


def test_a_mask_that_nobody_has_is_refused_with_the_way_out(store, explained):
    runs = explanation_store.compared_runs(store, explained)
    explanation_store.require_mask(runs, ["mask", "grad-cam"], posthoc=True)
    explanation_store.require_mask({"model": runs["teacher"]}, ["grad-cam"], posthoc=False)
    for names, posthoc in ((["grad-cam", "mask"], False), (["grad-cam"], True)):
        with pytest.raises(UsageError, match="has no mask to evaluate. Distil a student .*medtex.*grad-cam"):
            explanation_store.require_mask({"model": runs["teacher"]}, names, posthoc)
    with pytest.raises(UsageError, match="Choose the explainer mask"):
        explanation_store.require_mask(runs, ["grad-cam"], posthoc=True)


def test_a_row_per_model_and_per_further_map(store, explained):
    runs = explanation_store.compared_runs(store, explained)
    maps = {name: {"of": of, "kept": value(0.75), "left": value(0.5), "over": {}} for name, of in
            (("mask-soft", "student"), ("mask", "student"), ("grad-cam", "teacher"), ("random", ""))}
    explanation_store.save(explained, MASK, POSTHOC, explanation_store.depends_on(MASK, POSTHOC, runs),
                    {"area": value(0.1), "maps": maps}, {})
    told = {"kept": 0.75, "left": 0.5, "shown": 0.1}
    assert explanation_store.rows(explanation_store.load_all(store, explained, MASK)) == [
        {"explainer": "grad-cam", "model": "teacher", **told}, {"explainer": "grad-cam", "model": "control"},
        {"explainer": "mask", "model": "student", **told}, {"explainer": "mask-soft", "model": "student", **told},
        {"explainer": "random", "model": "", **told}]
