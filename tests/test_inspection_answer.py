"""The answer of a comparison: the right sentence for made-up maps, and the baseline of real models."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_runs import made_trio, picture
from small import distilled

from kd.datasets import open_dataset
from kd.errors import UsageError
from kd.evaluation import explanation_store, predict
from kd.inspection.agreement_sentence import Answer, RoleAnswer, hit_sentence, over_test_images
from kd.inspection.answer import OtherMaps, answer, answered, asked, other_maps, stored_agreement
from kd.inspection.compare import compare
from kd.metrics.map_similarity import spearman
from kd.paths import Paths
from kd.roles import CONTROL, EIGHT_BIT, STUDENT, TEACHER
from kd.store.runs import Store

GRID = 8


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A comparison whose maps the tests replace."""
    store = Store(Paths(tmp_path_factory.mktemp("answer")))
    return compare(store, made_trio(store)[2], picture(), repeats=1)


def blob(row, column, side=GRID):
    """A smooth map with its peak in this cell, all of whose values differ."""
    down, across = np.mgrid[:side, :side]
    heat = np.exp(-((down - row) ** 2 + (across - column) ** 2 + 0.01 * down + 0.003 * across) / 8)
    return (heat / heat.max()).astype(np.float32)


def with_map(panel, heat, blank=False, signed=False):
    old = panel.explanation
    new = replace(old.maps[0], values=heat, scaled=heat, blank=blank, signed=signed, placement=None)
    return replace(panel, explanation=replace(old, maps=(new,)))


def set_up(plain, teacher, student, control, blank=False):
    return replace(plain, teacher=with_map(plain.teacher, teacher), student=with_map(plain.student, student, blank),
                   control=with_map(plain.control, control))


def elsewhere(count=20, side=GRID):
    """Maps of other images, with peaks all over the image."""
    places = np.random.default_rng(0).uniform(0, side - 1, (count, 2))
    maps = np.stack([blob(*place, side=side) for place in places])
    images = np.stack([picture(seed + 1) for seed in range(count)])
    return OtherMaps(maps, np.zeros(count, bool), images)


def found(comparison, others=None, **kept):
    others = elsewhere() if others is None else others
    return answer(comparison, {STUDENT: others, CONTROL: others}, **kept)


def test_agreeing_maps_agree_and_opposite_ones_are_elsewhere(plain):
    own = blob(2, 2)
    said = found(set_up(plain, own, own**2, 1 - own))
    assert said.headline == ("In this image, teacher and student look at the same places; the control looks at "
                             "different places.")
    teacher, student, control = said.models
    assert (teacher.role, student.role, control.role) == (TEACHER, STUDENT, CONTROL)
    assert student.value == pytest.approx(1) and control.value == pytest.approx(-1)
    chance = spearman(np.repeat(own[None], 20, axis=0), elsewhere().maps)
    assert student.baseline == pytest.approx(chance.mean()) and student.share == 1
    assert f"student 1.00 (different images {chance.mean():.2f})".replace("-", "−") in said.text
    assert "control −1.00" in said.text


def test_maps_like_those_of_other_images_agree_no_more_than_by_chance(plain):
    chance = spearman(np.repeat(blob(2, 2)[None], 20, axis=0), elsewhere().maps)
    middling = elsewhere().maps[np.argsort(chance)[10]]
    said = found(set_up(plain, blob(2, 2), middling, middling))
    assert [one.verdict for one in said.models[1:]] == ["chance", "chance"]
    assert said.headline == ("In this image, the agreement of teacher and student cannot be told from chance; the same "
                             "goes for the control.")


def test_a_map_that_always_agrees_is_not_taken_for_an_answer(plain):
    """A bias to one place agrees with the teacher in every image: that is the baseline, not this image's agreement."""
    always = OtherMaps(np.repeat(blob(2, 2)[None], 20, axis=0), np.zeros(20, bool), elsewhere().images)
    student = found(set_up(plain, blob(2, 2), blob(2, 2), blob(2, 2)), always).models[1]
    assert student.value == pytest.approx(1) and student.baseline == pytest.approx(1)
    assert student.verdict == "chance"


def test_agreement_above_the_baseline_that_is_low_is_partial():
    assert RoleAnswer(STUDENT, (7, 7), 0.3, 0.0, 1.0).verdict == "partly"
    assert RoleAnswer(STUDENT, (7, 7), 0.1, 0.3, 0.0).verdict == "chance"  # lower, but not opposite


def test_constant_maps_and_blank_ones_cannot_be_compared(plain):
    constant = np.full((GRID, GRID), 0.4, np.float32)
    for said in (found(set_up(plain, blob(2, 2), constant, blob(2, 2))),
                 found(set_up(plain, blob(2, 2), blob(2, 2), blob(2, 2), blank=True))):
        assert "nothing to compare" in said.headline
        assert said.models[1].value is None
        assert "student" not in said.details[0] and "control 1.00" in said.details[0]
        json.dumps(said.to_json(), allow_nan=False)


def test_three_cells_a_side_are_too_coarse_to_tell_whoevers_they_are(plain):
    fine, coarse = blob(2, 2), blob(1, 1, side=3)
    mask = np.zeros((32, 32), np.uint8)
    mask[4:16, 4:16] = 1
    of_student = found(set_up(plain, fine, coarse, fine), elsewhere(side=3), evidence=mask)
    assert "too coarse to tell" in of_student.headline and "3×3 cells" in of_student.headline
    assert of_student.models[1].hit is None and of_student.models[0].hit is True
    of_teacher = found(set_up(plain, coarse, fine, fine), evidence=mask)
    assert [one.verdict for one in of_teacher.models] == ["coarse"] * 3
    assert "Rank correlation" not in of_teacher.text


def test_the_peak_is_looked_up_in_the_outline(plain):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:12, 8:12] = 1  # the cell (2, 2) of 8 × 8
    said = found(set_up(plain, blob(2, 2), blob(2, 2), blob(6, 6)), evidence=mask)
    assert [one.hit for one in said.models] == [True, True, False]
    assert said.text.endswith("The map's peak is in the outlined evidence for teacher and student, not for control.")
    assert "outlined" not in found(set_up(plain, blob(2, 2), blob(2, 2), blob(6, 6))).text


@pytest.mark.parametrize(("hits", "sentence"), [
    ((True, True), "The map's peak is in the outlined evidence: teacher and student."),
    ((False, False), "The map's peak misses the outlined evidence: teacher and student."),
    ((None, None), "")])
def test_hits_in_words(hits, sentence):
    models = [RoleAnswer(role, (7, 7), hit=hit) for role, hit in zip((TEACHER, STUDENT), hits, strict=True)]
    assert hit_sentence(models) == sentence


def test_few_other_images_give_no_verdict(plain):
    said = found(set_up(plain, blob(2, 2), blob(2, 2), blob(2, 2)), elsewhere(count=5))
    assert "no baseline" in said.headline
    assert "student 1.00, control 1.00" in said.text


def test_the_image_itself_is_not_among_the_others(plain):
    others = elsewhere(count=11)
    others.images[0] = plain.image
    kept = OtherMaps(others.maps[1:], others.blank[1:], others.images[1:])
    compared = set_up(plain, blob(2, 2), blob(3, 2), blob(2, 2))
    assert found(compared, others).to_json() == found(compared, kept).to_json()


def test_further_models_have_their_numbers(plain):
    student = replace(with_map(plain.student, blob(2, 2)), role=EIGHT_BIT)
    said = found(replace(set_up(plain, blob(2, 2), blob(2, 2), blob(2, 2)), others=(student,)))
    assert "8-bit student 1.00" in said.text


def scored(value, chance, gain=None, coarse=False):
    def of(mean):
        return {"coarse": coarse, "all": {"spearman": {"value": {"mean": mean}, "chance": chance}}}

    return {"images": 200, "maps": {STUDENT: of(value), CONTROL: of(0.4)}, "gain": gain and {"spearman": gain}}


def test_the_test_images_in_words():
    assert over_test_images(None) == ""
    assert over_test_images(scored(0.55, 0.2)) == (
        "On 200 test images: student 0.55 (different images 0.20), control 0.40 (0.20).")
    gained = scored(0.55, 0.2, {"mean": 0.15, "low": 0.1, "high": 0.2})
    assert "distilling raised the agreement above chance by 0.15" in over_test_images(gained)
    lost = scored(0.3, 0.2, {"mean": -0.1, "low": -0.2, "high": -0.05})
    assert "distilling lowered the agreement above chance by 0.10" in over_test_images(lost)
    even = scored(0.4, 0.2, {"mean": 0.0, "low": -0.1, "high": 0.1})
    assert over_test_images(even).endswith("; no difference between the two can be shown.")
    assert over_test_images(scored(0.55, 0.2, coarse=True)) == "On 200 test images: too coarse to tell."


def test_a_stored_evaluation_of_most_images_is_quoted(plain, monkeypatch):
    keys = [explanation_store.EvalKey("grad-cam", -1, limit) for limit in (20, 50)]
    keys += [explanation_store.EvalKey("layer-cam", -1, 0), explanation_store.EvalKey("grad-cam", 1, 0)]
    monkeypatch.setattr(explanation_store, "choices", lambda run: keys)
    monkeypatch.setattr(explanation_store, "load_all", lambda store, run, key: {"agreement": {"images": key.limit}})
    assert stored_agreement(None, plain) == {"images": 50}
    assert "On 50 test images" not in Answer((RoleAnswer(STUDENT, (7, 7), 0.5),), {"images": 50}).text  # no maps in it


def test_without_its_data_set_a_comparison_has_no_baseline(plain, tmp_path, monkeypatch):
    def gone(*_):
        raise UsageError("There is no such data set.")

    monkeypatch.setattr(predict, "data_of", gone)
    said = answered(Store(Paths(tmp_path)), plain)
    assert said.answer is not None and said.answer.models[1].baseline is None
    assert said.to_json()["answer"]["text"] == said.answer.text


def test_real_models_are_compared_as_an_evaluation_does(tmp_path):
    store = Store(Paths(tmp_path))
    trio = distilled(store, depth=3)
    spec = trio.student.spec
    data = open_dataset(spec.data, spec.image_size, store.paths)
    comparison = compare(store, trio.student, np.asarray(data.test.images[0]), repeats=1)
    maps = other_maps(trio.student, trio.teacher, data, *asked(comparison.student))
    assert maps is not None and len(maps.maps) == len(maps.images) == min(24, len(data.test))
    assert other_maps(trio.student, trio.teacher, data, "score-cam", 2) is None  # slow
    said = answered(store, comparison).answer
    assert said.to_json() == answer(comparison, {STUDENT: maps, CONTROL: other_maps(
        trio.control, trio.teacher, data, *asked(comparison.control))}).to_json()
