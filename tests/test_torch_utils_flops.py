import threading

import torch
from made_runs import TEACHER

from kd.models import build, build_untrained, cost
from kd.spec import RunSpec
from kd.torch_utils.flops import FlopCounter

MIB = 1 << 18  # float32 numbers in a MiB


def test_peak_is_what_is_alive_at_once():
    with FlopCounter(memory=True) as counter:
        one = torch.zeros(4 * MIB)
        del one
        other = torch.zeros(2 * MIB)
        third = other + 1
        del other, third
    assert counter.peak_bytes == 4 << 20
    assert counter.flops == 0


def test_what_was_there_before_and_what_works_in_place_adds_nothing():
    there = torch.zeros(8 * MIB)
    with FlopCounter(memory=True) as counter:
        there.add_(1)
        there.view(-1, 2)
    assert counter.peak_bytes == 0


def test_what_the_backward_pass_keeps_counts():
    weight = torch.ones(1)
    images = torch.zeros(MIB, requires_grad=True)

    def chain():
        value = images
        for _ in range(4):
            value = torch.sin(value * weight)
        return value.sum()

    with FlopCounter(memory=True) as kept:
        torch.autograd.grad(chain(), [images])
    with torch.no_grad(), FlopCounter(memory=True) as dropped:
        chain()
    assert kept.peak_bytes >= 4 * (4 << 18)
    assert dropped.peak_bytes <= 3 * (4 << 18)


def test_flops_are_those_of_the_models_cost():
    model = build_untrained(TEACHER, 3).eval()
    with torch.no_grad(), FlopCounter(memory=True) as counter:
        model(torch.zeros(2, 3, 32, 32))
    assert counter.flops == 2 * cost.cost(TEACHER, 3).flops
    assert counter.peak_bytes > 0


def test_a_count_does_not_see_other_threads():
    model = build(RunSpec(depth=2, image_size=32), classes=4).eval()
    with torch.no_grad(), FlopCounter(model) as counter:
        thread = threading.Thread(target=model, args=(torch.zeros(1, 3, 32, 32),))
        thread.start()
        thread.join()
    assert (counter.flops, counter.parameters) == (0, 0)


def test_weights_count_once_and_totals_stand_beside_each_output():
    first, second = torch.nn.Linear(3, 4), torch.nn.Linear(4, 5)
    with torch.no_grad(), FlopCounter(torch.nn.Sequential(first, second)) as counter:
        between = first(torch.zeros(2, 3))
        after = second(first(torch.zeros(2, 3)))
    assert counter.totals_at(between) == (2 * 2 * 3 * 4, 3 * 4 + 4)
    assert counter.totals_at(after) == (counter.flops, counter.parameters) == (2 * 2 * (2 * 3 * 4 + 4 * 5), 16 + 25)
    assert counter.weights_used == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert counter.peak_bytes == 0


def test_memory_is_weighed_beside_weights():
    model = torch.nn.Linear(256, 256)
    with torch.no_grad(), FlopCounter(model, memory=True) as counter:
        for _ in range(4):
            model(torch.zeros(1024, 256))  # input and output: 2 MiB alive at once, however often
    assert (counter.peak_bytes, counter.parameters) == (2 << 20, 256 * 257)
