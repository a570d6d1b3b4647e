import json

import numpy as np
import pytest
from made_runs import CONTROL, TEACHER, picture

from kd.explainers import EXPLAINERS
from kd.explanation_metrics.runtime import execution
from kd.models import build_untrained, cost


def test_cost_has_its_protocol_for_every_model():
    models = {"teacher": build_untrained(TEACHER, 3).eval(), "student": build_untrained(CONTROL, 3).eval()}
    images = np.stack([picture(seed) for seed in range(8)])
    said = execution(models, dict.fromkeys(models, EXPLAINERS["grad-cam"]), images,
                     dict.fromkeys(models, np.arange(8) % 3), repeats=3)
    json.dumps(said, allow_nan=False)
    assert (said["protocol"]["batch"], said["protocol"]["image_size"]) == (8, 32)
    for name, spec in (("teacher", TEACHER), ("student", CONTROL)):
        one = said["models"][name]
        assert one["seconds"]["n"] == one["forward"]["n"] == 3
        assert one["ratio"] == pytest.approx(one["seconds"]["median"] / one["forward"]["median"])
        # Grad-CAM in front of pooling and a linear layer is one forward pass and a product of maps and weights.
        assert one["flops"] == pytest.approx(cost.cost(spec, 3).flops, rel=0.05)
        assert one["peak_batch"] == 8
    assert said["models"]["teacher"]["peak_bytes"] > said["models"]["student"]["peak_bytes"]


def test_a_slow_explainer_is_run_once_on_few_pictures():
    name = next(name for name in EXPLAINERS if EXPLAINERS[name].info.cost == "minutes")
    told = []
    said = execution({"student": build_untrained(CONTROL, 3).eval()}, {"student": EXPLAINERS[name]},
                     np.stack([picture(), picture(1)]), {"student": np.zeros(2, np.int64)}, progress=told.append)
    one = said["models"]["student"]
    assert (one["seconds"]["n"], one["seconds"]["warmup"], said["protocol"]["batch"]) == (1, 0, 1)
    assert one["flops"] > 2 * cost.cost(CONTROL, 3).flops
    assert told
