import json
from dataclasses import replace

import pytest
from fabricate import summarise
from small import request

from kd.errors import UsageError
from kd.experiments.plan import plan_runs as plan_series
from kd.experiments.sweep import Sweep, cells, find, path, plan, planned_cells, runs, sweeps, unfinished_runs
from kd.experiments.sweep import request as cell_request
from kd.experiments.sweep.progress import place
from kd.methods import METHODS
from kd.methods.base import MethodInfo
from kd.methods.logits import KD
from kd.store.files import write_json
from kd.store.runs import FAILED, Store


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def bare(monkeypatch):
    """A second method, with one setting of its own and without alpha and temperature."""

    class Bare(KD):
        info = MethodInfo("Bare", "", "For a test.", {"tau": replace(KD.info.hyperparameters["alpha"], high=9.0)})

        def __init__(self, tau: float = 0.1) -> None:
            super().__init__()

    monkeypatch.setitem(METHODS._members, "bare", Bare)


def sweep(**axes) -> Sweep:
    return Sweep(request(seeds=2), axes or {"depth": (3, 2), "alpha": (0.4, 0.7), "temperature": (5, 10, 15)})


def finish(run) -> None:
    summarise(run)


def test_a_sweep_survives_json_and_equal_sweeps_are_one():
    one = sweep()
    assert Sweep.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert one.axes == {"depth": (2, 3), "alpha": (0.4, 0.7), "temperature": (5.0, 10.0, 15.0)}
    assert one.id == sweep(temperature=(15.0, 5, 10, 5), alpha=(0.7, 0.4), depth=(2, 3)).id
    assert one.id != sweep(depth=(2, 3)).id
    assert one.id.startswith("phantom_brain-depth-alpha-temperature-")


def test_one_value_only_is_a_setting_of_all():
    one = sweep(depth=(3,), alpha=(0.7,), temperature=(5, 10))
    assert one.base.depth == 3
    assert one.base.method_args == {"alpha": 0.7}
    assert list(one.axes) == ["temperature"]
    assert one == Sweep(request(seeds=2, depth=3, method_args={"alpha": 0.7}), {"temperature": (5, 10)})


@pytest.mark.parametrize(("axes", "words"), [
    ({"depth": ()}, "no value"),
    ({"depth": (2, 13)}, "depth must be between 1 and 12"),
    ({"depth": (2, 2.5)}, "depth must be a whole number"),
    ({"alpha": (0.1, float("nan"))}, "finite"),
    ({"image_size": (32, 64)}, "cannot take several values"),
    ({"teacher": ("resnet18", "resnet34")}, "cannot take several values"),
])
def test_what_cannot_be_is_refused_when_it_is_made(axes, words):
    with pytest.raises(UsageError, match=words):
        sweep(**axes)


@pytest.mark.parametrize(("axes", "words"), [
    ({"alfa": (0.1, 0.2)}, "Did you mean 'alpha'"),
    ({"alpha": (0.4, 1.5)}, "alpha must be between 0 and 1"),
    ({"method": ("kd", "kdd")}, "Did you mean 'kd'"),
    ({"method": ("kd", "supervised")}, "control arm"),
    ({"student": ("plain", "timm:resnet81")}, "resnet18"),
    ({"batch_size": (8, 16)}, "batch_size would each train a teacher"),
])
def test_what_cannot_be_is_refused_before_anything_is_made(store, axes, words):
    with pytest.raises(UsageError, match=words):
        plan(sweep(**axes), store)
    assert not list(store)
    assert not sweeps(store)


def test_a_method_that_learns_nothing_on_two_classes_is_refused_with_its_sweep(store, bare, monkeypatch):
    from kd import datasets

    monkeypatch.setattr(METHODS["bare"], "info", replace(METHODS["bare"].info, multiclass_only=True,
                                                          binary_note="nothing is left."))
    inspect = datasets.inspect
    monkeypatch.setattr("kd.datasets.inspect", lambda *args: replace(inspect(*args), classes=("a", "b")))
    with pytest.raises(UsageError, match="two classes: nothing is left"):
        plan(sweep(method=("kd", "bare")), store)
    assert not list(store)


def test_every_combination_is_a_cell():
    assert [cell.settings for cell in cells(sweep(depth=(2, 3), alpha=(0.4, 0.7)))] == [
        {"depth": 2, "alpha": 0.4}, {"depth": 2, "alpha": 0.7}, {"depth": 3, "alpha": 0.4}, {"depth": 3, "alpha": 0.7}]
    assert len(cells(sweep())) == 12


def test_an_axis_collapses_where_it_means_nothing(bare):
    one = sweep(method=("kd", "bare"), alpha=(0.4, 0.7), tau=(1, 2), temperature=(5,))
    assert [cell.settings for cell in cells(one)] == [
        {"method": "kd", "alpha": 0.4}, {"method": "kd", "alpha": 0.7}, {"method": "bare", "tau": 1.0},
        {"method": "bare", "tau": 2.0}]
    assert [cell_request(one, cell).method_args for cell in cells(one)][1:3] == [
        {"alpha": 0.7, "temperature": 5.0}, {"tau": 1.0}]
    families = sweep(student=("plain", "truncated", "timm:test_efficientnet"), depth=(2, 3), width=(4, 8))
    assert [cell.title for cell in cells(families)][3:] == [
        "plain, depth 3, width 8", "truncated, depth 2", "truncated, depth 3", "timm:test_efficientnet"]


def test_cells_share_teacher_and_controls(store):
    one = sweep()
    found = plan(one, store)
    assert len(list(store)) == 1 + 2 * 2 + 12 * 2
    assert len({cell.teacher for cell in found}) == 1
    series = plan_series(cell_request(one, found[4]), store)
    assert found[4].pairs == tuple((control.id, student.id) for control, student in series.pairs)
    assert planned_cells(one, store) == found
    assert plan(one, store) == found
    assert len(list(store)) == 29


def test_lengths_of_training_share_the_longest_trained_teacher(store):
    found = plan(sweep(epochs=(1, 4)), store)
    assert {store[cell.teacher].spec.epochs for cell in found} == {4}
    assert [store[cell.pairs[0][1]].spec.epochs for cell in found] == [1, 4]


def test_training_order_shows_every_cell_early(store):
    todo = unfinished_runs(sweep(depth=(2, 3), alpha=(0.4, 0.7)), store)
    kinds = ["teacher" if run.spec.model != "plain" else run.spec.method for run in todo]
    assert kinds == ["teacher", *(["supervised"] * 2 + ["kd"] * 4) * 2]
    assert [run.spec.seed for run in todo] == [0] * 7 + [1] * 6


def test_work_is_what_has_not_finished(store):
    one = sweep(alpha=(0.4, 0.7))
    todo = unfinished_runs(one, store)
    finish(todo[0])
    todo[1].log(FAILED, reason="no luck")
    assert unfinished_runs(one, store) == todo[1:]
    store.delete(todo[-1].id)
    assert len(runs(planned_cells(one, store), store)) == len(todo) - 1
    assert unfinished_runs(one, store) == todo[1:]  # planned again


def test_sweeps_are_found_again_and_are_no_runs(store):
    first, second = sweep(alpha=(0.4, 0.7)), sweep(depth=(2, 3))
    assert not sweeps(store)
    with pytest.raises(UsageError, match="none has been started"):
        find(store, "x")
    plan(first, store)
    plan(second, store)
    plan(first, store)  # going on does not make it the newest
    assert sweeps(store) == [second, first]
    assert find(store, first.id) == find(store, "phantom_brain-al") == first
    with pytest.raises(UsageError, match="Unknown sweep 'phantom_brain-'"):
        find(store, "phantom_brain-")
    assert all(run.readable() for run in store)


def test_a_sweep_of_a_version_with_fewer_settings_is_the_same_sweep(store):
    one = sweep(alpha=(0.4, 0.7))
    cells = plan(one, store)
    older = path(store, "phantom_brain-alpha-0123456789")
    values = json.loads(path(store, one.id).read_text())
    del values["sweep"]["base"]["equal_steps"]
    write_json(older, values)
    path(store, one.id).unlink()
    assert sweeps(store) == [one]
    assert planned_cells(one, store) == cells
    assert plan(one, store) == cells  # into the same file
    assert list(older.parent.glob("*.json")) == [older]


def test_a_sweep_file_that_cannot_be_read_is_passed_over(store):
    one = sweep(alpha=(0.4, 0.7))
    with pytest.raises(UsageError, match="has not been planned"):
        planned_cells(one, store)
    plan(one, store)
    later = json.loads(path(store, one.id).read_text())
    later["sweep"]["base"]["colour"] = "red"
    write_json(path(store, "of-tomorrow"), later)
    path(store, "torn").write_text("{")
    assert sweeps(store) == [one]


def test_soft_targets_of_a_sweep_share_one_set_of_fold_teachers(store):
    one = sweep(method=("kd", "at"), soft_targets=("teacher", "out-of-fold", "out-of-fold-uncorrected"), width=(4,))
    found = plan(one, store)
    assert [cell.title for cell in found] == ["kd, teacher", "kd, out-of-fold", "kd, out-of-fold-uncorrected", "at"]
    assert [len(cell.folds) for cell in found] == [0, 5, 5, 0]
    assert found[1].folds == found[2].folds == found[1].ids[1:6]
    assert planned_cells(one, store) == found
    todo = unfinished_runs(one, store)
    assert [run.spec.fold for run in todo[:7]] == [0, 1, 2, 3, 4, 5, 0]
    assert len(todo) == 1 + 5 + 2 + 4 * 2
    assert place(todo[2], found) == "fold teacher 2 of 5, test_resnet"
