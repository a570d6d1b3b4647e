import threading

import pytest
import torch

from kd.torch_utils.rng import isolated_rng

DRAWS = {
    "rand": lambda: torch.rand(3), "randn": lambda: torch.randn(3), "randint": lambda: torch.randint(9, (3,)),
    "randperm": lambda: torch.randperm(5), "uniform_": lambda: torch.empty(3).uniform_(-1, 1),
    "normal_": lambda: torch.empty(3).normal_(1, 2), "bernoulli_": lambda: torch.empty(9).bernoulli_(0.5),
    "rand_like": lambda: torch.rand_like(torch.ones(3)), "normal": lambda: torch.normal(torch.zeros(3), 1.0),
    "trunc_normal_": lambda: torch.nn.init.trunc_normal_(torch.empty(3)),
    "orthogonal_": lambda: torch.nn.init.orthogonal_(torch.empty(3, 3)),
    "dropout": lambda: torch.nn.functional.dropout(torch.ones(9)),
    "linear": lambda: torch.nn.Linear(2, 2).weight.detach()}


@pytest.mark.parametrize("name", DRAWS)
def test_numbers_are_those_of_the_seed_and_the_global_generator_is_not_moved(name):
    with torch.random.fork_rng():
        torch.manual_seed(11)
        expected = DRAWS[name]()
    before = torch.get_rng_state()
    with isolated_rng(11):
        drawn = DRAWS[name]()
    assert torch.equal(drawn, expected)
    assert torch.equal(before, torch.get_rng_state())


def test_a_block_does_not_reach_into_another_thread():
    drawn = {}

    def draw() -> None:
        drawn["there"] = torch.rand(3)

    with torch.random.fork_rng():
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        with isolated_rng(2):
            torch.rand(3)
            thread = threading.Thread(target=draw)
            thread.start()
            thread.join()
    assert torch.equal(drawn["there"], expected)


def test_tensors_without_numbers_draw_none():
    with isolated_rng(3):
        torch.empty(4, device="meta").normal_()
        torch.rand(4, device="meta")
        after = torch.rand(2)
    with isolated_rng(3):
        assert torch.equal(torch.rand(2), after)
