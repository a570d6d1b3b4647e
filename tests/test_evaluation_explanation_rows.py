"""An appraisal as rows: nothing without its chance level."""

import numpy as np

from kd.evaluation.explanation_rows import (
    BASELINES,
    MAPS,
    MASK_VS_OTHERS,
    VS_BASELINES,
    best_baseline,
    latencies,
    missing_sections,
    rows,
    spread,
)
from kd.evaluation.report import SECONDS
from kd.explanation_metrics import posthoc
from kd.explanation_metrics.image_only import IMAGE_ONLY


def one(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 9}


def timing(median: float) -> dict:
    return {"median": median, "low": median, "high": median, "n": 5, "warmup": 1}


def marked(of: str, kept: float, *others: str) -> dict:
    return {"of": of, "kept": one(kept), "left": one(1 - kept),
            "over": {name: {"kept": one(0.2), "left": one(0.3)} for name in others}}


FOUND = {
    "models": {"teacher": {"explainer": "grad-cam"}, "student": {"explainer": "mask"}},
    "sections": ["agreement", "localisation", "post-hoc", "faithfulness", "cost"],
    "post-hoc": {"area": one(0.1), "evidence": {"over": {"grad-cam": {"pointing": one(0.35)}}}, "maps": {
        "mask": marked("student", 0.9, "grad-cam", "centre", "random"), "grad-cam": marked("teacher", 0.6, "random"),
        "centre": marked("", 0.5, "random"), "random": marked("", 0.4)}},
    "agreement": {"maps": {"student": {"all": {"spearman": {
        "value": one(0.5), "chance": 0.2, "centre": 0.1, "excess": one(0.3)}}}}, "gain": {"spearman": one(0.15)}},
    "localisation": {"teacher": {"images": 0, "reason": "No masks."},
                     "student": {"area": 0.03, "scores": {"energy": {"value": one(0.4), "centre": 0.05,
                                                                     "over_area": one(0.37), "over_centre": one(0.35),
                                                                     "image_only": {"brightness": 0.3},
                                                                     "over_image_only": {"brightness": one(0.1)}}}}},
    "evidence": {"teacher": {"images": 0, "reason": "No masks."}, "student": {
        "kept": {"without": one(0.9), "mirrored": one(0.95), "alone": one(0.4), "blurred": one(0.3)},
        "mirrored_minus_without": one(0.05), "alone_minus_blurred": one(0.1)}},
    "faithfulness": {"student": {"scores": {"deletion": {"value": one(0.2), "random": 0.3, "centre": 0.25,
                                                         "over_random": one(0.1)}}}},
    "cost": {"models": {"student": {"forward": timing(0.01), "seconds": timing(0.02), "ratio": 2.0, "flops": 5,
                                    "peak_bytes": 7}}},
}


def test_every_judgement_carries_its_chance_level():
    made = rows(FOUND)
    told = {row.section: row for row in made}
    assert (told["agreement"].value, told["agreement"].chance, told["agreement"].excess) == (0.5, 0.2, 0.3)
    assert (told["localisation"].chance, told["localisation"].role) == (0.03, "student")
    assert told["faithfulness"].chance == 0.3
    assert told["faithfulness"].measure.endswith("↓")
    assert told["gain"].chance == 0.0
    assert all(row.chance is not None for row in made if row.section not in ("cost", "evidence"))


def test_localisation_stands_beside_every_baseline_also_of_earlier_versions():
    made = [row for row in rows(FOUND) if row.section == VS_BASELINES]
    assert {row.of: (row.value, row.chance, row.excess) for row in made} == {
        "area": (0.4, 0.03, 0.37), "centre": (0.4, 0.05, 0.35), "brightness": (0.4, 0.3, 0.1)}
    assert best_baseline(made).of == "brightness"
    assert best_baseline([]) is None
    assert {row.of for row in made} <= set(BASELINES) >= set(IMAGE_ONLY)
    score = {key: value for key, value in FOUND["localisation"]["student"]["scores"]["energy"].items()
             if "image_only" not in key}
    earlier = {"student": {"area": 0.03, "scores": {"energy": score}}}
    assert [row.of for row in rows({**FOUND, "localisation": earlier}) if row.section == VS_BASELINES] == [
        "area", "centre"]


def test_decisions_without_the_evidence_stand_beside_those_without_its_mirrored_region():
    made = {row.measure: row for row in rows(FOUND) if row.section == "evidence"}
    assert len(made) == 4
    without = made["decisions kept without the evidence ↓"]
    assert (without.value, without.chance, without.excess, without.role) == (0.9, 0.95, 0.05, "student")
    alone = made["decisions kept by the evidence alone"]
    assert (alone.value, alone.chance, alone.excess) == (0.4, 0.3, 0.1)
    earlier = {name: value for name, value in FOUND.items() if name != "evidence"}
    assert not [row for row in rows(earlier) if row.section == "evidence"]


def test_the_need_of_the_evidence_is_not_missed_where_no_image_has_any():
    sections = ["localisation", "evidence"]
    found = {**FOUND, "sections": sections, "evidence": None, "localisation": {"student": {"images": 4, "scores": {}}}}
    assert "evidence" in missing_sections(found)
    assert "evidence" not in missing_sections({**found, "localisation": {"student": {"images": 0}}})


def test_an_interval_without_width_that_an_earlier_version_stored_is_none():
    flat = {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 9}
    value = {"value": flat, "chance": 0.2, "centre": 0.1, "excess": one(0.8)}
    (row,) = rows({**FOUND, **dict.fromkeys(("localisation", "evidence", "faithfulness", "cost", "post-hoc")),
                   "agreement": {"maps": {"student": {"all": {"spearman": value}}}}})
    assert (row.value, row.low, row.high) == (1.0, None, None)
    assert row.reach == (0.0, 0.0)
    assert row.excess_low < row.excess < row.excess_high


def test_what_was_not_computed_is_left_out():
    assert rows({**dict.fromkeys(FOUND), "models": {}}) == []


def test_rows_name_the_explainer_that_was_used():
    others = ("post-hoc", "evidence", MASK_VS_OTHERS, VS_BASELINES)
    by_models = [row for row in rows(FOUND) if row.section not in others]
    assert {row.of for row in by_models} == {"mask"}  # the teacher has no masks to be scored by
    teacher = {**FOUND, "localisation": {"teacher": FOUND["localisation"]["student"]}}
    assert [row.of for row in rows(teacher) if row.section == "localisation"] == ["grad-cam"]


def test_posthoc_stands_beside_a_random_map_and_the_mask_beside_every_other():
    made = {(row.of, row.measure): row for row in rows(FOUND) if row.section == "post-hoc"}
    kept = made["grad-cam", "same prediction inside the mask"]
    assert (kept.value, kept.chance, kept.centre, kept.excess, kept.role) == (0.6, 0.4, 0.5, 0.2, "teacher")
    left = made["mask", "same prediction outside ↓"]
    assert (left.value, left.chance, left.excess) == (1 - 0.9, 0.6, 0.3)
    assert made["random", "same prediction inside the mask"].excess is None
    over = {(row.of, row.measure): row for row in rows(FOUND) if row.section == MASK_VS_OTHERS}
    assert over["grad-cam", "pointing game"].value == 0.35
    assert {name for name, _ in over} == {"grad-cam", "centre", "random"}
    assert all((row.chance, row.role) == (0.0, "student") for row in over.values())


def test_every_map_of_the_posthoc_agreement_has_a_name():
    assert {posthoc.SOFT, posthoc.MASK, posthoc.CENTRE, posthoc.RANDOM} <= set(MAPS)


def test_only_what_a_choice_can_have_is_missed():
    without = {**FOUND, "post-hoc": None, "cost": None}
    assert {"post-hoc", "cost"} <= set(missing_sections(without))
    assert "post-hoc" not in missing_sections(
        {**without, "sections": ["agreement", "localisation", "faithfulness", "cost"]}
    )


def test_latency_is_the_forward_pass():
    found, = latencies(rows(FOUND))
    assert (found.value, found.unit) == (0.01, SECONDS)


def test_spread_counts_every_picture_once():
    found = spread({"student_spearman": np.array([0.1, 0.2, np.nan, 0.9]), "student_spearman_excess": np.ones(4),
                    "control_spearman": np.full(4, np.nan)}, "spearman")
    assert list(found) == ["student"]
    assert sum(found["student"][1]) == 1
    assert spread({}, "spearman") == {}
