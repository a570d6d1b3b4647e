"""Several processes: how they agree, with the launcher's store and the ranks played here, and one real launch."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file
from small import distilled, explainer_of, request, small_data, spec

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
    monkeypatch.setattr(distributed, "_kv_store", lambda: board)
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


# Two commands in one launch, whose start takes longest. What each process had learnt whenever it predicted goes into a
# file of its own: on a stream that both write to, their lines run into one another.
SCRIPT = """
import os, sys, zlib
from kd.__main__ import main
from kd.evaluation import predict

predict_masked = predict.predict_masked

def noted(model, *args):
    content = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    with open(f"{__file__}.{os.environ['RANK']}", "a") as notes:
        print(zlib.crc32(content), file=notes)
    return predict_masked(model, *args)

predict.predict_masked = noted
split = sys.argv.index("and")
sys.exit(main(sys.argv[1:split]) or main(sys.argv[split + 1:]))
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """`fabric run` with two processes on gloo: a distillation, and one of a student whose mask is drawn. The specs,
    the store, what was printed and said, and the notes of both processes."""
    root = tmp_path_factory.mktemp("two")
    store, script = Store(Paths(root / "store")), root / "script.py"
    script.write_text(SCRIPT)
    plain = request(precision="32-true")
    masked = request(method="medtex", method_args={"features": 1.0}, precision="32-true", **explainer_of("medtex"))
    small_data(store.paths)
    own = ["--root", str(store.paths.root), "--preset", "none"]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("fabric"), "run", "--accelerator", "cpu", "--devices", "2", "--strategy", "ddp",
         "--main-port", str(free_port()), "--", str(script), "distill", *flags(plain), *own, "--json", "and",
         "distill", *flags(masked), *own, "--method", "medtex", "--features", "1", "--mask-net-depth", "1",
         "--mask-net-width", "4", "--mask-area", "0.25"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KD_LENS_LOCK": str(root / "worker.lock")})
    try:
        out, err = process.communicate(timeout=240)
    finally:
        if process.poll() is None:  # neither the launcher nor what it started goes on
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    notes = [Path(f"{script}.{rank}").read_text().split() for rank in "01"]
    return SimpleNamespace(plain=plain, masked=masked, store=store, out=out, err=err, notes=notes)


def test_two_processes_give_what_one_does(launched, tmp_path):
    """A teacher, its control and its student."""
    two, expected = launched.store, distilled(Store(Paths(tmp_path)), precision="32-true")
    assert launched.out.count('"seeds": [{') == 1 and launched.err.count("epoch 2/2") == 4, "only one process speaks"
    assert len(list(two)) == 4
    for lone, shared in zip(expected.runs, plan_first_seed(launched.plain, two).runs, strict=True):
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


def test_two_processes_that_draw_masks_of_their_own_learn_the_same_weights(launched):
    """A mask network, and a method that learns beside it: after each epoch both have one model."""
    chief, other = launched.notes
    assert chief == other
    assert len(chief) == 4 * 3
    assert len(set(other[-3:])) >= 2  # after each of two epochs, and the best of them for the test
    student = plan_first_seed(launched.masked, launched.store).student
    assert student.status == "finished"
    assert student.last_event("started")["world"] == 2
    assert all(np.isfinite(list(event["terms"].values())).all() for event in student.epochs())
