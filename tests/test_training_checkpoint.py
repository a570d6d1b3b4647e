import pytest
import torch
from lightning_fabric.plugins.precision import MixedPrecision, Precision

from kd.errors import UsageError
from kd.spec import RunSpec
from kd.store.runs import Store
from kd.training import checkpoint
from kd.training.checkpoint import TrainState


def pieces(seed):
    torch.manual_seed(seed)
    model, method = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW([*model.parameters(), *method.parameters()])
    method(model(torch.ones(1, 3))).sum().backward()
    optimizer.step()
    return model, method, optimizer, MixedPrecision("16-mixed", "cpu")


def test_what_was_saved_comes_back():
    run = Store().create(RunSpec())
    model, method, optimizer, precision = pieces(0)
    checkpoint.save(run, model, method, optimizer, precision, TrainState(3, 1, (0.5, -0.2), 7.5))
    other, other_method, other_optimizer, _ = others = pieces(1)
    assert checkpoint.restore(run, *others) == TrainState(3, 1, (0.5, -0.2), 7.5)
    assert torch.equal(other.weight, model.weight)
    assert torch.equal(other_method.weight, method.weight)
    moments = [optimizer.state_dict()["state"][0]["exp_avg"] for optimizer in (optimizer, other_optimizer)]
    assert torch.equal(*moments)


def overflow(precision):
    """A step whose gradient is not finite, at which the scaler halves its scale."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    precision.backward(weight.sum() * float("inf"), None)
    precision.optimizer_step(optimizer)
    assert weight.item() == 1.0


def test_the_gradient_scaler_goes_on_with_its_scale():
    run = Store().create(RunSpec())
    *before, precision = pieces(0)
    fresh = precision.scaler.get_scale()
    overflow(precision)
    assert precision.scaler.get_scale() == fresh / 2
    checkpoint.save(run, *before, precision, TrainState(1))
    *after, resumed = pieces(1)
    checkpoint.restore(run, *after, resumed)
    assert resumed.scaler.get_scale() == fresh / 2
    assert resumed.state_dict() == precision.state_dict()
    overflow(resumed)
    assert resumed.scaler.get_scale() == fresh / 4


@pytest.mark.parametrize(("then", "now"), [("32-true", "16-mixed"), ("16-mixed", "bf16-mixed"),
                                           ("16-mixed", "32-true")])
def test_a_state_without_a_scaler_meets_one_and_the_other_way_round(then, now):
    """Saved by a version that did not keep it, or in another precision."""
    plugins = {"32-true": Precision, "16-mixed": lambda: MixedPrecision("16-mixed", "cpu"),
               "bf16-mixed": lambda: MixedPrecision("bf16-mixed", "cpu")}
    run = Store().create(RunSpec())
    checkpoint.save(run, *pieces(0)[:3], plugins[then](), TrainState(1))
    assert checkpoint.restore(run, *pieces(1)[:3], plugins[now]()) == TrainState(1)


def test_a_state_of_a_version_without_scalers_can_be_read():
    run = Store().create(RunSpec())
    checkpoint.save(run, *pieces(0), TrainState(1))
    state = torch.load(run.resume_state, weights_only=True)
    del state["scaler"]
    torch.save(state, run.resume_state)
    assert checkpoint.restore(run, *pieces(1)) == TrainState(1)


def test_nothing_saved_is_a_fresh_start():
    assert checkpoint.restore(Store().create(RunSpec()), *pieces(0)) == TrainState()


def test_a_broken_file_is_said_in_words():
    run = Store().create(RunSpec())
    run.resume_state.write_bytes(b"not a state")
    with pytest.raises(UsageError, match="cannot be read"):
        checkpoint.restore(run, *pieces(0))
