"""What the first epoch tells: the loss at the start, and the entropy of the soft targets."""

import math

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from kd.methods import build as build_method
from kd.models import build
from kd.spec import RunSpec
from kd.training.batches import Batch
from kd.training.first_epoch import START, TARGETS, TargetStatistics, observed
from kd.training.step import build_step

CLASSES = 4


def batch(labels: list[int], seed: int = 0) -> Batch:
    index = np.zeros(len(labels), np.int64)
    images = torch.rand(len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return Batch(images, torch.tensor(labels), index, index)


def step_of(method: str = "kd", **settings: float):
    model = build(RunSpec(depth=2, width=4, image_size=32), CLASSES)
    made = build_step(Fabric(accelerator="cpu", devices=1), model, build_method(method, settings),
                      torch.optim.SGD(model.parameters(), lr=0.1), None)
    made.model.eval()
    return made


def logged(step, pairs, epoch: int = 0) -> dict[str, dict]:
    """Events of an epoch in which each batch is trained on."""
    events: dict[str, dict] = {}
    source = observed(iter(pairs), epoch, step, CLASSES, lambda name, **values: events.update({name: values}))
    for one, outputs in source:
        step(one, outputs, 1.0)
    return events


def test_the_loss_at_the_start_is_that_of_the_first_batch_before_its_step():
    step, first = step_of("supervised"), batch([0, 1, 2, 3])
    own = torch.nn.functional.cross_entropy(step.model(first.images).logits, first.target).item()
    found = logged(step, [(first, {}), (batch([0, 0, 0, 0], 1), {})])
    assert found == {START: {"loss": pytest.approx(own), "chance": pytest.approx(math.log(4))}}
    assert not step.model._forward_hooks, "what was attached has come off"


def test_only_the_first_epoch_is_observed():
    assert logged(step_of("supervised"), [(batch([0, 1]), {})], epoch=1) == {}


def test_images_without_a_label_do_not_count_as_wrong():
    step = step_of("kd", alpha=0.0)
    some = Batch(batch([0, 1]).images, torch.tensor([0, -1]), np.zeros(2, np.int64), np.zeros(2, np.int64))
    statistics = TargetStatistics(step.method.soften)
    statistics.add(some, {"logits": 9 * torch.eye(CLASSES)[:2]})
    found = statistics.report(statistics.sums, 4.0, CLASSES)
    assert (found["right"], found["images"]) == (1.0, 2)


def test_targets_are_told_by_their_entropy_as_softened_and_at_temperature_1():
    """One target of the label alone, one that says nothing: on average half of ln K."""
    logits = torch.cat([1000 * torch.eye(CLASSES)[:1], torch.zeros(1, CLASSES)])
    found = logged(step_of("kd", temperature=2.0), [(batch([0, 1]), {"logits": logits})] * 2)[TARGETS]
    assert found == {"temperature": 2.0, "entropy": pytest.approx(math.log(4) / 2), "share": pytest.approx(0.5),
                     "entropy_t1": pytest.approx(math.log(4) / 2), "share_t1": pytest.approx(0.5), "right": 0.5,
                     "images": 4}


def test_a_higher_temperature_makes_targets_say_more():
    logits = 6 * torch.eye(CLASSES)
    cold, warm = (logged(step_of("kd", temperature=one), [(batch([0, 1, 2, 3]), {"logits": logits})])[TARGETS]
                  for one in (1.0, 4.0))
    assert cold["share"] == cold["share_t1"] == warm["share_t1"] < 0.05 < warm["share"]
    softened = torch.softmax(logits[0] / 4, dim=0)
    assert warm["entropy"] == pytest.approx(float(-(softened * softened.log()).sum()))
    assert warm["right"] == 1


def test_standardised_targets_do_not_depend_on_the_scale_of_the_logits():
    logits = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(0))
    shares = {logged(step_of("logit-std"), [(batch([0, 1, 2, 3]), {"logits": scale * logits})])[TARGETS]["share"]
              for scale in (1.0, 2.0)}
    assert max(shares) == pytest.approx(min(shares), rel=1e-4)


def test_a_method_without_soft_targets_has_none_to_tell():
    step = step_of("supervised")
    assert TARGETS not in logged(step, [(batch([0, 1]), {"cams": torch.zeros(2, CLASSES, 2, 2)})])
