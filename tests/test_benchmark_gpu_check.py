"""The check itself, where every machine can run it."""

from benchmarks import gpu_check
from kd.training import checkpoint


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(capsys):
    (found,) = gpu_check.main(["--device", "cpu", "--precisions", "32-true"])
    assert found.passed
    assert (found.device, found.weights, found.losses, found.scaler) == ("cpu", 0.0, 0.0, 0.0)
    assert "passed" in capsys.readouterr().out


def test_a_resume_that_forgets_the_optimizer_is_caught(monkeypatch, tmp_path):
    restore = checkpoint.restore

    def forgetful(run, model, method, optimizer, precision):
        state = optimizer.state_dict()
        progress = restore(run, model, method, optimizer, precision)
        optimizer.load_state_dict(state)
        return progress

    monkeypatch.setattr(checkpoint, "restore", forgetful)
    assert not gpu_check.check("cpu", "32-true", tmp_path).passed


def test_a_scale_is_missed_where_there_should_be_one():
    alike = gpu_check.Result("16-mixed", "cuda:0", 0.0, 0.0, 0.0)
    assert not alike.passed
    assert alike._replace(scaler=65536.0).passed
    assert not alike._replace(scaler=65536.0, weights=0.1).passed
    assert alike._replace(precision="32-true").passed
