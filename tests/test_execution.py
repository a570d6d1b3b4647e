import json

import numpy as np
import pytest
import torch
from made_runs import CONTROL, TEACHER, picture

from kd.criteria.execution import Effort, execution
from kd.explainers import EXPLAINERS
from kd.models import cost, skeleton

MIB = 1 << 18  # float32 numbers in a MiB


def test_peak_is_what_is_alive_at_once():
    with Effort() as effort:
        one = torch.zeros(4 * MIB)
        del one
        other = torch.zeros(2 * MIB)
        third = other + 1
        del other, third
    assert effort.peak == 4 << 20
    assert effort.flops == 0


def test_what_was_there_before_and_what_works_in_place_adds_nothing():
    there = torch.zeros(8 * MIB)
    with Effort() as effort:
        there.add_(1)
        there.view(-1, 2)
    assert effort.peak == 0


def test_what_the_backward_pass_keeps_counts():
    weight = torch.ones(1)
    images = torch.zeros(MIB, requires_grad=True)

    def chain():
        value = images
        for _ in range(4):
            value = torch.sin(value * weight)
        return value.sum()

    with Effort() as kept:
        torch.autograd.grad(chain(), [images])
    with torch.no_grad(), Effort() as dropped:
        chain()
    assert kept.peak >= 4 * (4 << 18)
    assert dropped.peak <= 3 * (4 << 18)


def test_flops_are_those_of_the_models_cost():
    model = skeleton(TEACHER, 3).eval()
    with torch.no_grad(), Effort() as effort:
        model(torch.zeros(2, 3, 32, 32))
    assert effort.flops == 2 * cost.cost(TEACHER, 3).flops
    assert effort.peak > 0


def test_cost_has_its_protocol_for_every_model():
    models = {"teacher": skeleton(TEACHER, 3).eval(), "student": skeleton(CONTROL, 3).eval()}
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
    name = next(name for name in EXPLAINERS if EXPLAINERS[name].facts.cost == "minutes")
    told = []
    said = execution({"student": skeleton(CONTROL, 3).eval()}, {"student": EXPLAINERS[name]},
                     np.stack([picture(), picture(1)]), {"student": np.zeros(2, np.int64)}, progress=told.append)
    one = said["models"]["student"]
    assert (one["seconds"]["n"], one["seconds"]["warmup"], said["protocol"]["batch"]) == (1, 0, 1)
    assert one["flops"] > 2 * cost.cost(CONTROL, 3).flops
    assert told
