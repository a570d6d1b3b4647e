import pytest
import torch

from kd import checkpoint
from kd.checkpoint import Progress
from kd.errors import UsageError
from kd.runs import Store
from kd.spec import RunSpec


def pieces(seed):
    torch.manual_seed(seed)
    model, method = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW([*model.parameters(), *method.parameters()])
    method(model(torch.ones(1, 3))).sum().backward()
    optimizer.step()
    return model, method, optimizer


def test_what_was_saved_comes_back():
    run = Store().create(RunSpec())
    model, method, optimizer = pieces(0)
    checkpoint.save(run, model, method, optimizer, Progress(3, 1, (0.5, -0.2), 7.5))
    other, other_method, other_optimizer = pieces(1)
    assert checkpoint.restore(run, other, other_method, other_optimizer) == Progress(3, 1, (0.5, -0.2), 7.5)
    assert torch.equal(other.weight, model.weight)
    assert torch.equal(other_method.weight, method.weight)
    moments = [optimizer.state_dict()["state"][0]["exp_avg"] for optimizer in (optimizer, other_optimizer)]
    assert torch.equal(*moments)


def test_nothing_saved_is_a_fresh_start():
    assert checkpoint.restore(Store().create(RunSpec()), *pieces(0)) == Progress()


def test_a_broken_file_is_said_in_words():
    run = Store().create(RunSpec())
    run.resume_state.write_bytes(b"not a state")
    with pytest.raises(UsageError, match="cannot be read"):
        checkpoint.restore(run, *pieces(0))
