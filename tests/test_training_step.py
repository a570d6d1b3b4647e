"""One optimiser step: what it learns from, and which parameters decay."""

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from kd.methods import build as build_method
from kd.models import build
from kd.spec import RunSpec
from kd.training.batches import Batch
from kd.training.step import build_step, decay_groups

INDEX = np.zeros(4, np.int64)
BATCH = Batch(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0]), INDEX,
              INDEX)


@pytest.fixture
def step():
    """Of a student in eval mode, so that a batch always gives the same logits, by soft targets alone."""
    model, method = build(RunSpec(depth=2, width=4, image_size=32), 3), build_method("kd", {"alpha": 0.0})
    fabric = Fabric(accelerator="cpu", devices=1)
    made = build_step(fabric, model, method, torch.optim.SGD(model.parameters(), lr=0.1), None)
    made.model.eval()
    return made


def weights(step):
    return torch.cat([one.detach().flatten() for one in step.parameters()])


def test_a_student_learns_from_the_teacher_outputs_of_its_batch(step):
    before = weights(step)
    own = step.model(BATCH.images).logits.detach()
    terms = step(BATCH, {"logits": own}, 1.0)
    assert terms.keys() == {"hard", "soft"}
    assert not any(value.requires_grad for value in terms.values())
    torch.testing.assert_close(weights(step), before, rtol=0, atol=1e-6)  # it has what it shall have
    other = {"logits": own.roll(1, dims=1) + 5 * torch.eye(3)[BATCH.target]}
    first, *_, last = [step(BATCH, other, 1.0)["soft"] for _ in range(20)]
    assert last < first
    assert (weights(step) - before).abs().max() > 1e-3


def test_gradients_do_not_add_up_over_steps(step):
    outputs = {"logits": torch.eye(3)[BATCH.target]}
    for group in step.optimizer.param_groups:
        group["lr"] = 0.0
    step(BATCH, outputs, 1.0)
    first = [one.grad.clone() for one in step.parameters()]
    step(BATCH, outputs, 1.0)
    for one, gradient in zip(step.parameters(), first, strict=True):
        torch.testing.assert_close(one.grad, gradient)


def test_kernels_and_matrices_decay_and_nothing_else():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2), nn.Linear(2, 2).requires_grad_(False))
    decayed, others = decay_groups(model, 0.05)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert set(map(id, decayed["params"])) == {id(model[0].weight), id(model[2].weight)}
    assert set(map(id, others["params"])) == {id(model[0].bias), id(model[1].weight), id(model[1].bias),
                                             id(model[2].bias)}
