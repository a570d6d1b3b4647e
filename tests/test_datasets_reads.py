"""A data set is listed and hashed once, however many runs are planned on it."""

from collections import Counter
from pathlib import Path

import pytest
from made_sets import count_reads, make_folder
from small import request

from kd import datasets
from kd.experiments import plan
from kd.experiments.data_efficiency import data_efficiency
from kd.experiments.estimate import estimate_resources
from kd.experiments.sweep import Sweep, checked, unfinished_runs
from kd.experiments.sweep.estimate import estimate_sweep
from kd.store.runs import Store

AXES = {"alpha": (0.1, 0.4, 0.9), "temperature": (2.0, 4.0), "depth": (2, 3)}
SETTINGS = {"teacher": "test_resnet", "width": 4, "image_size": 32, "epochs": 2, "seeds": 2}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def data(store: Store) -> str:
    """Three classes of ten images."""
    return str(make_folder(store.paths.data / "set", {"a": 10, "b": 10, "c": 10}))


@pytest.fixture
def reads(data: str, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    return count_reads(monkeypatch, Path(data))


@pytest.fixture
def once(store: Store, data: str, reads: Counter[str]) -> Counter[str]:
    """The reads of one inspection: each folder listed, each image asked for its size and times once, and
    the heads of a few."""
    datasets.inspect(data, store.paths)
    found = Counter(reads)
    assert found["listings"] == 4
    assert 30 <= found["stats"] < 55
    reads.clear()
    return found


def test_a_sweep_of_twelve_cells_is_planned_on_one_reading(store, data, reads, once):
    sweep = Sweep(request(data=data), AXES)
    assert len(checked(sweep, store)) == 12
    assert reads == once


def test_its_time_is_estimated_on_one_reading(store, data, reads, once):
    estimate_sweep(Sweep(request(data=data), AXES), store)
    assert reads == once


def test_its_runs_are_made_on_one_reading(store, data, reads, once):
    assert len(unfinished_runs(Sweep(request(data=data, seeds=2), AXES), store)) == 1 + 2 * 2 + 12 * 2
    assert reads == once


def test_a_study_of_less_data_is_planned_on_one_reading(store, data, reads, once):
    unfinished_runs(data_efficiency({**SETTINGS, "data": data}, methods=("kd", "dkd")), store)
    assert reads == once


def test_a_distillation_is_planned_on_one_reading(store, data, reads, once):
    plan.plan_runs(request(data=data, seeds=3), store)
    assert reads == once


def test_a_single_run_is_planned_on_one_reading(store, data, reads, once):
    assert plan.plan_single_run({"data": data}, store).data == data
    assert reads == once


def test_what_has_been_inspected_is_not_read_again(store, data, reads):
    known = datasets.inspect(data, store.paths)
    reads.clear()
    wanted = request(data=data)
    planned = plan.plan_specs(wanted, store, known)
    estimate_resources(planned, known, store)
    plan.method_warning(wanted, known)
    plan.plan_runs(wanted, store, known)
    estimate_sweep(Sweep(wanted, AXES), store, known)
    unfinished_runs(Sweep(wanted, AXES), store, known)
    assert not reads
