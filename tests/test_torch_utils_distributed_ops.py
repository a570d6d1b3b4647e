"""Two threads play two processes: what is computed is the same, and the sum over them is all that is replaced."""

import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import explainer_of, spec
from torch import nn
from torch.nn import functional as F

from kd.datasets.base import Split
from kd.evaluation import predict
from kd.methods import METHODS, build
from kd.models import build as build_model
from kd.models import stage_shapes
from kd.models.masked_student import MaskedStudent
from kd.observation import Observation, select_output
from kd.torch_utils import distributed_ops

WORLD = 2


class Together:
    """Stands for torch.distributed among threads."""

    def __init__(self):
        self.barrier = threading.Barrier(WORLD, timeout=30)
        self.mine = threading.local()
        self.parts = {}
        self.group = SimpleNamespace(WORLD=None)

    def get_world_size(self):
        return WORLD

    def get_rank(self):
        return self.mine.rank

    def all_gather_object(self, shares, mine):
        self.parts[self.mine.rank] = mine
        self.barrier.wait()
        shares[:] = [self.parts[rank] for rank in range(WORLD)]
        self.barrier.wait()

    def all_reduce(self, tensor):
        self.parts[self.mine.rank] = tensor.clone()
        self.barrier.wait()
        total = sum(self.parts[rank] for rank in range(WORLD))
        self.barrier.wait()
        tensor.copy_(total)


@pytest.fixture
def in_two(monkeypatch):
    """Call a function of the rank for both at once; the results in order."""
    world = Together()
    monkeypatch.setattr(distributed_ops, "distributed", world)

    def call(work):
        def one(rank):
            world.mine.rank = rank
            return work(rank)
        with ThreadPoolExecutor(WORLD) as pool:
            return [future.result(timeout=60) for future in [pool.submit(one, rank) for rank in range(WORLD)]]
    return call


def share(rows, rank):
    return rows[rank::WORLD]


def picture(count=12, channels=3, side=6):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm2d(3), lambda: nn.BatchNorm2d(3, affine=False),
                                  lambda: nn.BatchNorm2d(3, momentum=None),
                                  lambda: nn.BatchNorm2d(3, track_running_stats=False)])
def test_batch_norm_of_shares_is_that_of_the_whole_batch(in_two, make):
    images = picture() * 3 + 100  # far from zero, where a variance from squares would have no digit left

    def values(norm, rows):
        rows = rows.clone().requires_grad_()
        out = norm(rows)
        (first,) = torch.autograd.grad((out**3).sum(), rows, create_graph=True)
        (second,) = torch.autograd.grad((first**2).sum(), rows)
        return [one.detach() for one in (out, first, second)], norm.state_dict()

    def both(rank):
        with distributed_ops.batch_norm(WORLD):
            return values(make().double(), share(images, rank))

    expected, state = values(make().double(), images)
    for rank, (found, kept) in enumerate(in_two(both)):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, share(other, rank), rtol=1e-8, atol=1e-8)
        assert kept.keys() == state.keys()
        for name, value in state.items():
            torch.testing.assert_close(kept[name], value)


def test_objects_of_all_processes_come_in_their_order_however_many_each_has(in_two):
    found = in_two(lambda rank: distributed_ops.gather_objects([(rank, "a"), "b"][:2 - rank]))
    assert found == [[(0, "a"), "b", (1, "a")]] * 2


class Dim(nn.Module):
    """Logits and a mask that say which image each is of; counts the images that it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, images, stages=True):
        self.shown.append(len(images))
        level = images.mean(dim=(1, 2, 3))
        return Observation(torch.stack([level, -level], 1), (), mask=images[:, 0] * level[:, None, None])


@pytest.mark.parametrize("count", [1, 64, 65, 150, 256])
def test_shares_of_a_split_give_what_one_process_gives_and_no_image_counts_twice(in_two, count):
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    split = Split(images, np.zeros(count, np.int64), tuple(map(str, range(count))))
    logits, report = predict.predict_masked(Dim(), split)
    models = [Dim(), Dim()]
    found = in_two(lambda rank: predict.predict_masked(models[rank], split, "cpu", rank, WORLD))
    for shared, masks in found:  # the same calls on the same batches, added up in the same order
        np.testing.assert_array_equal(shared, logits)
        assert masks == report
    assert sum(sum(model.shown) for model in models) == count
    assert abs(len(models[0].shown) - len(models[1].shown)) <= 1


def test_batch_norm_in_eval_and_outside_of_several_processes_is_left_alone(in_two):
    images, norm = picture().float(), nn.BatchNorm2d(3)
    with distributed_ops.batch_norm(1):
        assert torch.equal(norm(images), F.batch_norm(images, None, None, norm.weight, norm.bias, True))
    norm.eval()

    def evaluated(rank):
        with distributed_ops.batch_norm(WORLD):
            return norm(share(images, rank))

    for rank, found in enumerate(in_two(evaluated)):
        torch.testing.assert_close(found, share(norm(images), rank))


def test_half_precision_keeps_its_type_and_its_statistics(in_two):
    images = (picture() + 5).to(torch.bfloat16)

    def one(rank):
        with distributed_ops.batch_norm(WORLD):
            return nn.BatchNorm2d(3)(share(images, rank))

    expected = nn.BatchNorm2d(3)(images.float())
    for rank, found in enumerate(in_two(one)):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), share(expected, rank), rtol=0.01, atol=0.02)


@pytest.fixture
def nothing_drawn(monkeypatch):
    """A masked student's random areas without luck, of which every process has its own."""
    monkeypatch.setattr(MaskedStudent, "_random_areas",
                        lambda self, scores, widest: scores.new_full((len(scores),), 0.5))


def gradients(model, method, rows, target, outputs, world=1):
    """Mean gradients of what learns, as several processes have them before the mean is taken over these."""
    with distributed_ops.batch_norm(world):
        seen = model(rows, **method.forward_kwargs(1.0))
        if method.compares_batch and world > 1:
            seen, outputs, target = distributed_ops.all_gather_batch(seen, outputs, target)
        loss = sum(method(seen, outputs, target, 1.0).values())
    learns = [*model.parameters(), *method.parameters()]
    return loss.detach(), torch.autograd.grad(loss, learns, allow_unused=True)


MODELS = {"plain": {}, "grouped, batch norm in the head": {"model": "mobilenetv4_conv_small_035"},
          "layers that lead nowhere": {"model": "truncated", "base": "hrnet_w18_small", "depth": 2}}


@pytest.mark.parametrize(("method", "model"), [*((name, "plain") for name in METHODS),
                                               *(("cat-kd", name) for name in MODELS if name != "plain")])
def test_loss_and_gradient_of_shares_are_those_of_the_whole_batch(in_two, nothing_drawn, method, model):
    settings, count = spec(**MODELS[model], **explainer_of(method)), 8
    teacher = build_model(spec(seed=3), 4).double().eval().requires_grad_(False)
    rows = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = torch.arange(count) % 4

    student, judge = build_model(settings, 4).double(), build(method, {})
    if judge.needs_mask_net:  # which begins with scores that are the same everywhere
        nn.init.normal_(student.mask_net.score.weight)
    judge.setup(stage_shapes(settings, 4), stage_shapes(spec(), 4))

    def learn(rows, target, world=1):
        seen = teacher(rows, cams=True)
        outputs = {name: select_output(seen, name) for name in judge.teacher_outputs}
        if judge.needs_mask_net:
            outputs["mask_target"] = rows[:, 0]
        return gradients(deepcopy(student), deepcopy(judge).double(), rows, target, outputs, world)

    loss, expected = learn(rows, target)
    found = in_two(lambda rank: learn(share(rows, rank), share(target, rank), WORLD))
    torch.testing.assert_close(sum(one for one, _ in found) / WORLD, loss)
    for whole, *parts in zip(expected, *(grads for _, grads in found), strict=True):
        assert [part is None for part in parts] == [whole is None] * WORLD
        if whole is not None:
            torch.testing.assert_close(sum(parts) / WORLD, whole, rtol=1e-5, atol=1e-8)


def test_what_is_gathered_stands_in_the_order_of_the_processes(in_two):
    rows = torch.arange(8.0).view(4, 2)
    observed = Observation(rows, (rows[:, :, None, None],))

    def one(rank):
        own = Observation(share(rows, rank), (share(observed.stages[0], rank),))
        seen, outputs, target = distributed_ops.all_gather_batch(own, {"logits": share(rows, rank)},
                                                                share(torch.arange(4), rank))
        return seen.logits, seen.stages[0].flatten(1), outputs["logits"], target

    for logits, stage, taught, target in in_two(one):
        assert target.tolist() == [0, 2, 1, 3]
        assert torch.equal(logits, rows[target]) and torch.equal(stage, logits) and torch.equal(taught, logits)
