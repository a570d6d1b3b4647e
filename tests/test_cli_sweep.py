import csv
import json

import pytest
from fabricate import summarise
from made_sets import make_folder
from made_sweep import SWEEP, made
from small import DATA
from test_cli import run

from kd.cli import sweep as verb
from kd.cli.parser import parser
from kd.errors import UsageError
from kd.experiments.sweep import plan, runs, sweeps
from kd.jobs import queue as jobs_queue
from kd.store.runs import CANCELLED, FAILED, FINISHED, INTERRUPTED, QUEUED, Store

SMALL = ["--data", DATA, "--teacher", "test_resnet", "--image-size", "32", "--epochs", "1", "--batch-size", "8",
         "--views", "3"]
LISTS = ["--alpha", "0.4,0.7", "--depth", "2", "--width", "4", "--seeds", "2"]


def test_from_flags_to_the_table_and_again(capsys, tmp_path):
    root = ["--root", str(tmp_path / "store"), "--json"]
    file = tmp_path / "table.csv"
    code, result, err = run(capsys, "sweep", *SMALL, *LISTS, "--csv", str(file), *root)
    assert code == 0
    assert "2 cells, 7 runs, 7 to train" in err
    assert "[3/7] cell 1 of 2, alpha 0.4: student, seed 1 of 2" in err
    assert [cell["status"] for cell in result["cells"]] == [FINISHED] * 2
    assert [(cell["alpha"], cell["seeds"]) for cell in result["cells"]] == [(0.4, 2), (0.7, 2)]
    proven = result["outcome"]["above_majority"]["low"] > 0  # hardly, after one epoch
    assert result["best"] in ((1, 2) if proven else (None,))
    assert result["outcome"]["seeds"] == [0, 1]
    assert all(cell["explanation_ms"] > 0 for cell in result["cells"])
    assert result["fronts"]["flops"]
    assert result["notice"] == "Not for clinical use."
    assert [line["alpha"] for line in csv.DictReader(file.read_text().splitlines())] == ["0.4", "0.7"]
    printed = tmp_path / "table.tex"
    assert run(capsys, "sweep", "--show", result["sweep"], "--csv", str(printed), *root)[0] == 0
    assert printed.read_text().count(r"\\") == 3

    code, again, err = run(capsys, "sweep", *SMALL, *LISTS, *root)
    assert again == result
    assert "7 runs, 0 to train" in err
    assert "sweep-times" not in err
    code, table, err = run(capsys, "sweep", "--show", result["sweep"][:-3], *root[:2])
    assert {"cell", "alpha", "seeds", "finished", "<-"} <= set(table.split())
    assert ("Best on validation" in err) == ("<- best" in table) == proven
    assert "Not for clinical use" in err
    code, listed, _ = run(capsys, "sweep", "--show", *root)
    assert listed == {"sweeps": [{"sweep": result["sweep"], "cells": 2, "finished": 2, "axes": "alpha 0.4|0.7"}]}


@pytest.mark.parametrize(("words", "message"), [
    (["sweep"], "Give the data set"),
    (["sweep", *SMALL, "--depth", "2,x"], "'2,x' is not a list of whole numbers parted by commas"),
    (["sweep", *SMALL, "--alpha", "0.4,7"], "alpha must be between 0 and 1"),
    (["sweep", *SMALL, "--method", "kd,kdd"], "Did you mean 'kd'"),
    (["sweep", *SMALL, "--depth", ","], "depth has no value"),
    (["sweep", "--show", "nothing"], "none has been started"),
])
def test_what_cannot_be_is_one_sentence_and_exit_2(capsys, words, message):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert not list(Store())


def train_as_told(monkeypatch, outcomes):
    """Instead of training: by model label and method the status; the rest finish at once."""
    def execute(run, store):
        status = outcomes.get((run.spec.model_label, run.spec.method_args.get("alpha")), FINISHED)
        if isinstance(status, BaseException):
            raise status
        if status == FINISHED:
            summarise(run)
        else:
            run.log(status, reason="no luck")
        return status

    monkeypatch.setattr(verb, "execute", execute)


def test_a_failed_cell_does_not_stop_the_rest(capsys, monkeypatch):
    train_as_told(monkeypatch, {("plain2w4", 0.4): FAILED})
    store = Store()
    verb.train_all(SWEEP, store)
    found = runs(plan(SWEEP, store), store)
    assert [run.status for run in found].count(FAILED) == 2
    assert [run.status for run in found].count(FINISHED) == len(found) - 2
    assert "failed. no luck" in capsys.readouterr().err


def test_without_its_teacher_nothing_else_is_tried(monkeypatch):
    train_as_told(monkeypatch, {("test_resnet", None): CANCELLED})
    store = Store()
    with pytest.raises(UsageError, match="The teacher phantom_brain-test_resnet-supervised-.* cancelled"):
        verb.train_all(SWEEP, store)
    assert {run.status for run in runs(plan(SWEEP, store), store)[1:]} == {INTERRUPTED}


def test_what_waits_is_queued_for_others_to_see_and_let_go_on_ctrl_c(capsys, monkeypatch):
    store = Store()
    seen = []

    def execute(run, store):
        seen.extend(run.status for run in runs(plan(SWEEP, store), store))
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "execute", execute)
    with pytest.raises(KeyboardInterrupt):
        verb.train_all(SWEEP, store)
    assert set(seen) == {QUEUED}
    assert {run.status for run in runs(plan(SWEEP, store), store)} == {INTERRUPTED}
    assert "The same command goes on from here." in capsys.readouterr().err


def test_what_another_program_trains_is_left_to_it(capsys, monkeypatch):
    train_as_told(monkeypatch, {})
    store = Store()
    busy = runs(plan(SWEEP, store), store)[-1]
    queue = jobs_queue.Queue(store.paths)
    monkeypatch.setattr(queue, "_start", lambda: None)
    queue.submit([busy])
    verb.train_all(SWEEP, store)
    assert busy.status == QUEUED
    assert "is queued in another program" in capsys.readouterr().err
    queue.cancel(busy)


def test_a_finished_sweep_as_json_has_no_value_that_json_lacks():
    store = Store()
    made(store)
    from kd.experiments.sweep.results import table

    result = verb.as_json(sweeps(store)[0], table(SWEEP, store), store)
    assert json.loads(json.dumps(result, allow_nan=False))["best"] == 2


def test_no_cell_is_called_best_whose_students_are_no_better_than_the_majority_class(capsys):
    store = Store()
    made(store, wrong=dict.fromkeys(range(1, 5), 88))  # of 120 in four classes
    from kd.experiments.sweep.results import table

    rows = table(SWEEP, store)
    assert verb.as_json(SWEEP, rows, store)["best"] is None
    lines = verb._as_text(SWEEP, rows, store)["cells"]
    said = capsys.readouterr().err
    assert [line["cell"] for line in lines if "<-" in line["status"]] == [2]
    assert "no better than the majority class" in lines[1]["status"]
    assert "No cell is called best. Highest on validation (macro-F1): cell 2" in said
    assert "Student, seed 0: No better than the majority class" in said


def test_a_sweep_says_what_a_method_is_on_two_classes(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "unfinished_runs", lambda sweep, store, data: plan(sweep, store, data) and [])
    monkeypatch.setattr(verb, "time_explanations", lambda sweep, store: None)
    data = str(make_folder(tmp_path / "two", {"a": 8, "b": 8}))
    err = run(capsys, "sweep", "--data", data, *SMALL[2:], "--method", "kd,dkd,dist", "--json")[2]
    assert "dkd: On two classes there is one other class only" in err
    assert "dist: Two numbers always correlate" in err
    assert "\nkd: " not in err


def test_a_grid_of_alpha_and_temperature_is_one_flag():
    asked = verb._asked(parser().parse_args(["sweep", "--data", "phantom-brain", "--grid", "--temperature", "3"]))
    assert (asked.axes, asked.base.method_args) == ({"alpha": (0.4, 0.7)}, {"temperature": 3.0})
    words = ["sweep", "--data", "phantom-brain", "--grid", "--method", "at,logit-std"]
    assert verb._asked(parser().parse_args(words)).axes == {"method": ("at", "logit-std"), "temperature": (5, 10, 15)}
