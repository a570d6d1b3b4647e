"""Several processes: how they agree, with the launcher's store and the ranks played here, and one real launch."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import made
from safetensors.numpy import load_file
from small import distilled, explainer_of, request, spec

from kd import datasets
from kd.errors import Stopped, UsageError
from kd.evaluation import predict
from kd.experiments.plan import plan_first_seed
from kd.jobs.follower import follow
from kd.paths import Paths
from kd.store.runs import Store
from kd.training import distributed

ROOT = Path(__file__).resolve().parents[1]


class Board:
    """Stands for the launcher's key-value store."""

    def __init__(self):
        self.kept = {}

    def set(self, key, value):
        self.kept[key] = value.encode()

    def get(self, key):
        return self.kept[key]

    def check(self, keys):
        return all(key in self.kept for key in keys)

    def compare_set(self, key, expected, value):
        return self.kept.setdefault(key, value.encode())


@pytest.fixture
def launch(monkeypatch):
    """Make this process one of two; the store that they share."""
    board = Board()

    def become(rank, number=0):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setattr(distributed._Session, "number", number)
        return board

    for name, value in {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "_board", lambda: board)
    monkeypatch.setattr(distributed._Session, "parted", False)
    return become


def of_two(rank, device="cpu"):
    return SimpleNamespace(world_size=2, is_global_zero=rank == 0, device=SimpleNamespace(type=device),
                           barrier=lambda: None)


def test_without_a_launcher_nothing_is_asked_of_anybody():
    alone, asked = SimpleNamespace(world_size=1, barrier=lambda: None), lambda: True
    assert not distributed.launched() and not distributed.is_worker()
    assert distributed.agree_to_stop(asked, alone) is asked
    assert distributed.fabric_choice({"accelerator": "cpu"}) == {"accelerator": "cpu", "devices": 1}
    with pytest.raises(UsageError, match="mend me"), distributed.raise_together(alone):
        raise UsageError("mend me")
    with pytest.raises(ZeroDivisionError), distributed.fail_together():
        raise ZeroDivisionError
    distributed.release_workers()


def test_what_the_launcher_was_told_holds(launch, monkeypatch):
    launch(1)
    own = {"accelerator": "auto", "precision": "32-true"}
    assert distributed.is_worker()
    assert distributed.fabric_choice(own) == {**own, "devices": 2, "num_nodes": 1}
    for name in ("ACCELERATOR", "DEVICES", "NUM_NODES"):
        monkeypatch.setenv(f"LT_{name}", "2")
    assert distributed.fabric_choice(own) == {"precision": "32-true"}


def test_followers_train_what_the_chief_trains_and_then_go_home(launch):
    store = Store()
    runs = [store.create(spec(seed=seed)) for seed in range(2)]
    launch(0)
    for run in runs:
        with distributed.as_main_process(run, store):
            pass
    distributed.release_workers()
    launch(1)
    assert [(run, found.paths) for run, found in distributed.assigned_runs()] == [(run, store.paths) for run in runs]


def test_all_stop_before_the_same_batch(launch):
    wish = iter([False, False, True, True, True])
    launch(0)
    chief = distributed.agree_to_stop(lambda: next(wish), of_two(0))
    follower = distributed.agree_to_stop(lambda: pytest.fail("only the chief is asked"), of_two(1))
    # The follower is as far as the chief's gradients let it be: here before, there after the chief's look.
    order = (follower, chief, chief, follower, chief, follower, chief, follower)
    assert [ask() for ask in order] == [False] * 6 + [True] * 2
    queued = distributed.agree_to_stop(lambda: True, of_two(0, "cuda"))
    assert [queued() for _ in range(18)] == [False] * 16 + [True] * 2


def test_what_one_cannot_do_none_goes_on_with(launch):
    launch(1)
    with pytest.raises(UsageError, match="has changed"), distributed.raise_together(of_two(1)):
        raise UsageError("The data set has changed.")
    launch(0)
    with pytest.raises(UsageError, match="has changed"), distributed.raise_together(of_two(0)):
        pass
    launch(0, number=1)
    with distributed.raise_together(of_two(0)):
        pass


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
def test_who_fails_first_says_so_and_the_other_stops(launch, first, second):
    launch(first)
    with pytest.raises(MemoryError), distributed.fail_together():
        raise MemoryError
    launch(second)
    with pytest.raises(Stopped), distributed.fail_together():
        raise RuntimeError("Connection closed by peer")
    with pytest.raises(KeyboardInterrupt), distributed.fail_together():
        raise KeyboardInterrupt


def test_processes_that_lost_each_other_train_nothing_more(launch):
    store = Store()
    run = store.create(spec())
    launch(0)
    with pytest.raises(OSError, match="disk"), distributed.as_main_process(run, store):
        raise OSError("disk")
    with pytest.raises(SystemExit, match="Give the same command again"), distributed.as_main_process(run, store):
        pass


def order(board, run, number):
    board.set(f"order/{number}", f"{run.id}\n{Store().paths.root}")


def test_a_follower_logs_only_what_nobody_else_knows(launch, monkeypatch):
    from kd.training import loop

    runs = [Store().create(spec(seed=seed)) for seed in range(3)]
    board = launch(1)
    for number, run in enumerate(runs, 1):
        order(board, run, number)
    ends = iter([UsageError("all say it"), Stopped(), MemoryError("not enough")])

    def end(run, store):
        with distributed.raise_together(of_two(1)):
            raise next(ends)

    monkeypatch.setattr(loop, "train", end)
    with pytest.raises(MemoryError):
        follow()
    assert [run.last_event("failed") is not None for run in runs] == [False, False, True]
    assert "ran out of memory" in runs[2].failure_reason


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def flags(wanted):
    given = {"data": wanted.data, "teacher": wanted.teacher, "depth": wanted.depth, "width": wanted.width,
             "epochs": wanted.epochs, "image-size": wanted.image_size, "batch-size": wanted.batch_size,
             "views": wanted.views, "precision": wanted.precision}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


@contextmanager
def in_two(*command):
    """`fabric run` with two processes: in the block it runs; what it printed, and what it said, is there afterwards."""
    launcher = [Path(sys.executable).with_name("fabric"), "run", "--accelerator", "cpu", "--devices", "2",
                "--strategy", "ddp", "--main-port", str(free_port()), "--", *command]
    launched = subprocess.Popen(launcher, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    guard = threading.Timer(200, os.killpg, (launched.pid, 9))
    guard.start()
    told = []
    try:
        yield told
        told += launched.communicate()
    finally:
        guard.cancel()
        if launched.poll() is None:  # the block failed: nothing of it goes on
            os.killpg(launched.pid, 9)
            launched.communicate()
    assert launched.returncode == 0, told[1]


@pytest.mark.xdist_group("processes")
@pytest.mark.timeout(240)
def test_two_processes_give_what_one_does(tmp_path):
    """The whole way: `fabric run`, gloo, a teacher, its control and its student."""
    wanted = request(precision="32-true")
    one, two = (Store(Paths(tmp_path / name)) for name in ("one", "two"))
    with in_two("kd", "distill", *flags(wanted), "--root", str(two.paths.root), "--json") as told:
        expected = distilled(one, precision="32-true")
    out, words = told
    assert out.count('"student"') == words.count("epoch 2/2") / 3 == 1, "only one process speaks"
    assert len(list(two)) == 3
    for lone, shared in zip(expected.runs, plan_first_seed(wanted, two).runs, strict=True):
        assert [event["event"] for event in shared.events()] == [event["event"] for event in lone.events()]
        assert (shared.last_event("started")["world"], lone.last_event("started")["world"]) == (2, 1)
        for mine, theirs in zip(lone.epochs(), shared.epochs(), strict=True):
            assert theirs["terms"] == pytest.approx(mine["terms"], rel=1e-4)
            assert theirs["val_loss"] == pytest.approx(mine["val_loss"], rel=1e-4)
        one_image = 1 / sum(shared.summary["data"]["counts"]["test"])  # near a tie, rounding decides
        assert shared.summary["accuracy"] == pytest.approx(lone.summary["accuracy"], abs=1.01 * one_image)
        scored = predict.data_of(shared, two).test
        alone = predict.predict(predict.load(shared, len(lone.summary["classes"])), scored)
        with np.load(shared.path / "predictions.npz") as stored:  # each process had every second batch of the same size
            assert len(stored["logits"]) == len(scored)
            np.testing.assert_allclose(stored["logits"], alone, rtol=1e-5, atol=1e-6)
        weights = load_file(shared.weights)
        for name, value in load_file(lone.weights).items():
            np.testing.assert_allclose(weights[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


LISTENING = """
import os, sys, zlib
from kd import evaluate
from kd.__main__ import main

predict = evaluate.predict_masked

def told(model, *args):
    content = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    with open(f"{__file__}.{os.environ['RANK']}", "a") as notes:
        print(zlib.crc32(content), file=notes)
    return predict(model, *args)

evaluate.predict_masked = told
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.xdist_group("processes")
@pytest.mark.timeout(240)
def test_two_processes_that_draw_masks_of_their_own_learn_the_same_weights(tmp_path):
    """An explainer, and a method that learns beside it: after each epoch both have one model."""
    store, script = Store(Paths(tmp_path / "two")), tmp_path / "listening.py"
    script.write_text(LISTENING)
    wanted = request(method="medtex", method_args={"features": 1.0}, precision="32-true", **explainer_of("medtex"))
    trio = plan_first_seed(wanted, store)
    for run in (trio.teacher, trio.control):
        made(store, run.spec, datasets.inspect(wanted.data, store.paths).classes)
    with in_two(str(script), "distill", *flags(wanted), "--method", "medtex", "--features", "1", "--mask-net-depth",
                "1", "--mask-net-width", "4", "--root", str(store.paths.root)):
        pass
    # A file for each: on a stream that both write to, their lines run into one another.
    chief, other = (Path(f"{script}.{rank}").read_text().split() for rank in "01")
    assert len(set(other)) >= 2  # after each of two epochs, and the best of them for the test
    assert chief == other
    assert len(chief) == 3
    assert trio.student.status == "finished"
    assert trio.student.last_event("started")["world"] == 2
    assert all(np.isfinite(list(event["terms"].values())).all() for event in trio.student.epochs())
