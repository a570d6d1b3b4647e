from dataclasses import replace

import pytest
from made_sweep import SWEEP, made
from small import request

from kd.experiments.estimate import ResourceEstimate, RunEstimate
from kd.experiments.sweep import Sweep
from kd.experiments.sweep.estimate import estimate_sweep
from kd.store.runs import Store


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def asked(monkeypatch):
    """A forecast of 100 s for the teacher, 10 s for a control, 27 s for a student, 7 s of which are the teacher's
    passes for its like; notes how often it is asked."""
    calls = []

    def estimate_resources(specs, data, store):
        calls.append(specs)
        assert (len(data.classes), data.images) == (4, 60)
        needs = [RunEstimate(role, seconds, "as told", False, teacher_seconds=passes) for role, seconds, passes in
                 (("teacher", 100.0, 0.0), ("control", 10.0, 0.0), ("student", 27.0, 7.0))]
        return ResourceEstimate(tuple(needs), 42, 0, None, 0, 0)

    monkeypatch.setattr("kd.experiments.estimate.estimate_resources", estimate_resources)
    return calls


def test_what_cells_share_is_counted_once(store, asked):
    found = estimate_sweep(SWEEP, store)
    assert (found.cells, found.runs, found.finished) == (4, 1 + 2 * 2 + 4 * 2, 0)
    assert found.seconds == 100 + 4 * 10 + 8 * 20 + 7
    assert len(asked) == 2  # one of a depth: alpha and seed change nothing
    assert not list(store)


def test_what_has_finished_costs_nothing(store, asked):
    made(store, seeds=1)
    found = estimate_sweep(SWEEP, store)
    assert (found.runs, found.finished) == (13, 7)
    assert found.seconds == 2 * 10 + 4 * 20 + 7
    made(store)
    assert estimate_sweep(SWEEP, store).seconds == 0


def test_a_real_forecast_of_it(store):
    found = estimate_sweep(Sweep(request(), {"alpha": (0.4, 0.7)}), store)
    assert found.runs == 4
    assert found.seconds > 0


def test_a_forecast_counts_fold_teachers_once(store, monkeypatch):
    def estimate_resources(specs, data, store):
        seconds = {"teacher": 100.0, "fold teacher": 400.0, "control": 10.0, "student": 20.0}
        return ResourceEstimate(tuple(RunEstimate(role, time, "as told", False, 5 if role == "fold teacher" else 1)
                                      for role, time in seconds.items()), 42, 0, None, 0, 0)

    monkeypatch.setattr("kd.experiments.estimate.estimate_resources", estimate_resources)
    axes = {"soft_targets": ("teacher", "out-of-fold"), "alpha": (0.4, 0.7)}
    found = estimate_sweep(replace(SWEEP, axes=axes), store)
    assert (found.cells, found.runs) == (4, 1 + 5 + 2 + 4 * 2)
    assert found.seconds == 100 + 400 + 2 * 10 + 8 * 20
