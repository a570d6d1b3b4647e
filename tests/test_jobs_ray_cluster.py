"""Many runs at once, on a real Ray cluster of two workers."""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load
from small import DATA, SIZE, spec, trained

from kd.__main__ import main
from kd.errors import UsageError
from kd.jobs import ray_cluster
from kd.paths import Paths
from kd.store.runs import Store

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def workers():
    """Two of one core each; their start takes seconds, so one cluster serves all."""
    os.environ |= {"RAY_worker_niceness": "0"}  # by default 15: beside other tests they would hardly ever have a core
    folder = tempfile.mkdtemp(prefix="ray")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder)
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def when(run, epochs, act):
    """Do something with the worker's process id once a run has come so far."""
    def wait():
        while len(run.epochs()) < epochs:
            time.sleep(0.02)
        act(run.last_event("placed")["pid"])
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def students(store, **long):
    """A teacher and three students, the last of which trains for longer."""
    teacher = store.create(spec(model="test_resnet"))
    taught = [spec(method="kd", teacher=teacher.id), spec(method="at", teacher=teacher.id, seed=1),
              spec(method="kd", teacher=teacher.id, **long)]
    return [teacher, *map(store.create, taught)]


def flags(store):
    return ["--data", DATA, "--teacher", "test_resnet", "--depth", "2", "--width", "4", "--epochs", "1", "--views", "3",
            "--image-size", str(SIZE), "--batch-size", "8", "--json", "--root", str(store.paths.root)]


def test_runs_are_those_of_one_process_also_when_a_worker_is_lost(workers, tmp_path):
    store = Store(Paths(tmp_path / "many"))
    runs = students(store, epochs=25)
    lost = when(runs[-1], 2, lambda pid: os.kill(pid, signal.SIGKILL))
    told = []
    # The students first: the order is Ray's to find.
    assert ray_cluster.train_all(runs[::-1], store, report=told.append) == {run.id: "finished" for run in runs}
    lost.join()
    placed = {run.id: [event["pid"] for event in run.events() if event["event"] == "placed"] for run in runs}
    assert [len(placed[run.id]) for run in runs] == [1, 1, 1, 2], "taken up again once, the others never"
    assert len(runs[-1].epochs()) == len([event for event in runs[-1].events() if event["event"] == "epoch"])
    assert told[0] == f"[1/4] {runs[0].id} finished." and len(told) == 4
    alone = Store(Paths(tmp_path / "alone"))
    for run in runs:
        assert run.last_event("started")["threads"] == 1
        assert trained(alone, **asdict(run.spec)).weights.read_bytes() == run.weights.read_bytes(), run.id
    assert ray_cluster.train_all(runs, store) == {}, "what has finished is used again"


def test_students_of_one_teacher_compute_each_row_once(workers, tmp_path):
    store = Store(Paths(tmp_path / "many"))
    teacher = trained(store, model="test_resnet")
    runs = [store.create(spec(method="kd", teacher=teacher.id, method_args={"alpha": alpha})) for alpha in (0.4, 0.9)]
    ray_cluster.train_all(runs, store)
    alone = Store(Paths(tmp_path / "alone"))
    shutil.copytree(teacher.path, alone.path / teacher.id, ignore=shutil.ignore_patterns("teacher_outputs"))
    assert sum(run.last_event("teacher_cache")["computed"] for run in runs) == 2 * 44
    for run in runs:
        one, other = (load(path.read_bytes()) for path in (run.weights, trained(alone, **asdict(run.spec)).weights))
        for name, value in one.items():  # a row may stand in another place of its chunk
            torch.testing.assert_close(value, other[name], rtol=1e-2, atol=1e-3)


def test_what_fails_is_reported_and_the_rest_goes_on(workers):
    store = Store()
    teacher = store.create(spec(data_fingerprint="0000"))
    student, other = store.create(spec(method="kd", teacher=teacher.id)), store.create(spec())
    busy = store.create(spec(seed=5))
    told = []
    with busy.lock():
        busy.log("started")
        ended = ray_cluster.train_all([teacher, student, other, busy], store, report=told.append)
    assert ended == {teacher.id: "failed", student.id: "planned", other.id: "finished", busy.id: "running"}
    assert any(f"{teacher.id} failed. The data set" in text for text in told)
    assert f"{student.id}: left out, for its teacher {teacher.id} did not finish" in told
    assert not student.events()


def test_a_sweep_has_the_numbers_of_one_without_ray(workers, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kd.cli.sweep.time_explanations", lambda wanted, store: None)  # on this machine either way
    found = []
    for way in ([], ["--ray"]):
        store = Store(Paths(tmp_path / "-".join(["sweep", *way])))
        assert main(["sweep", *flags(store), "--alpha", "0.4,0.9", *way]) == 0
        found.append(json.loads(capsys.readouterr().out))
    for result in found:
        for cell in result["cells"]:
            [cell.pop(name) for name in list(cell) if "seconds" in name]
    assert found[0]["cells"] == found[1]["cells"] and len(found[0]["cells"]) == 2


@pytest.fixture
def obeys_ctrl_c():
    """Tests that run in parallel run in processes that ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_interrupts_the_runs_too(workers, obeys_ctrl_c):
    store = Store()
    run = store.create(spec(epochs=1000))
    when(run, 1, lambda pid: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        ray_cluster.train_all([run], store)
    assert run.status == "interrupted"


def test_more_cores_than_a_machine_has_are_refused(workers):
    with pytest.raises(UsageError, match="has 99 cores for a run; the largest has 2"):
        ray_cluster.train_all([], Store(), cpus=99)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch, address):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for minutes"))
    with pytest.raises(UsageError, match=f"no Ray cluster at {address} .* ray start --head"):
        ray_cluster.train_all([], Store(), address)


def test_without_ray_the_way_out_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="pip install -r requirements-ray.txt"):
        ray_cluster.train_all([], Store())
