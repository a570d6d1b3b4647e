"""An appraisal as rows: nothing without its chance level."""

import numpy as np

from kd.scorecard import SECONDS
from kd.verdict import latencies, rows, spread


def one(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 9}


def timing(median: float) -> dict:
    return {"median": median, "low": median, "high": median, "n": 5, "warmup": 1}


FOUND = {
    "agreement": {"maps": {"student": {"all": {"spearman": {
        "value": one(0.5), "chance": 0.2, "centre": 0.1, "excess": one(0.3)}}}}, "gain": {"spearman": one(0.15)}},
    "localisation": {"teacher": {"images": 0, "reason": "No masks."},
                     "student": {"area": 0.03, "scores": {"energy": {"value": one(0.4), "centre": 0.05,
                                                                     "over_area": one(0.37)}}}},
    "faithfulness": {"student": {"scores": {"deletion": {"value": one(0.2), "random": 0.3, "centre": 0.25,
                                                         "over_random": one(0.1)}}}},
    "cost": {"models": {"student": {"forward": timing(0.01), "seconds": timing(0.02), "ratio": 2.0, "flops": 5,
                                    "peak_bytes": 7}}},
}


def test_every_judgement_carries_its_chance_level():
    made = rows("grad-cam", FOUND)
    assert {row.of for row in made} == {"grad-cam"}
    told = {row.section: row for row in made}
    assert (told["agreement"].value, told["agreement"].chance, told["agreement"].excess) == (0.5, 0.2, 0.3)
    assert (told["localisation"].chance, told["localisation"].role) == (0.03, "student")
    assert told["faithfulness"].chance == 0.3
    assert told["faithfulness"].measure.endswith("↓")
    assert told["gain"].chance == 0.0
    assert all(row.chance is not None for row in made if row.section != "cost")


def test_what_was_not_computed_is_left_out():
    assert rows("grad-cam", dict.fromkeys(FOUND)) == []


def test_latency_is_the_forward_pass():
    found, = latencies(rows("grad-cam", FOUND))
    assert (found.value, found.unit) == (0.01, SECONDS)


def test_spread_counts_every_picture_once():
    found = spread({"student_spearman": np.array([0.1, 0.2, np.nan, 0.9]), "student_spearman_excess": np.ones(4),
                    "control_spearman": np.full(4, np.nan)}, "spearman")
    assert list(found) == ["student"]
    assert sum(found["student"][1]) == 1
    assert spread({}, "spearman") == {}
