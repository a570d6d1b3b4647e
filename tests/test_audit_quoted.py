"""The verdict on a data set stands beside every score: on pages, on the command line, in tables and in Python."""

import csv
import io
import json

import pytest
from fabricate import trio
from made_sweep import SWEEP, made
from opened import open_page
from test_pages_home import home, words

from kd.__main__ import main
from kd.api.distillation import Experiment
from kd.audit import beside
from kd.audit.findings import FAULT, Finding
from kd.audit.report import VERSION, AuditReport, Measured
from kd.experiments.sweep import sweeps
from kd.experiments.sweep.results import as_csv, table
from kd.store.files import write_json
from kd.store.groups import replicates_of
from kd.store.runs import Run, Store

SCORE = {"mean": 0.61, "low": 0.5, "high": 0.7, "n": 60}
REPORT = AuditReport(
    "set", "abc", "set", 600, 64, ("a", "b"), "no", "pixels",
    (Finding("copies-test", FAULT, "9 of 60 (15 %) of the test images are copies of training images"),),
    (Measured("pixels", "logistic regression on 24 × 24 pixels", SCORE, SCORE),), version=VERSION)
BRIEF = "cores on this data set cannot be believed (copies of training images in the test part)"


@pytest.fixture(autouse=True)
def audited(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(run: Run) -> AuditReport:
        return REPORT

    monkeypatch.setattr(beside, "audit_of", of)


def test_a_card_of_the_home_page_and_the_table_of_runs_say_it_in_few_words():
    trio(Store())
    assert f"Audit: s{BRIEF}" in words(home()).replace("\\", "")
    shown = open_page("pages/runs.py")
    assert shown.dataframe[0].value["Audit"].tolist() == [f"s{BRIEF}."] * 3


def test_a_sweep_says_it_once_and_its_table_in_every_line():
    store = Store()
    made(store)
    assert words(open_page("pages/sweep.py")).replace("\\", "").count(REPORT.verdict) == 1
    wanted = sweeps(store)[0]
    lines = list(csv.DictReader(io.StringIO(as_csv(wanted, table(SWEEP, store), store))))
    assert {line["audit"] for line in lines} == {REPORT.verdict}


def test_the_command_line_says_it_with_runs_a_run_and_a_sweep(capsys):
    store = Store()
    *_, student = trio(store)
    for run in store:
        write_json(run.path / "evaluation.json", {**(run.evaluation or {}), "ece": 0.1})
    assert main(["runs", "--json"]) == 0
    assert {row["audit"] for row in json.loads(capsys.readouterr().out)["runs"]} == {f"s{BRIEF}."}
    assert main(["show", student.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["audit"] == REPORT.verdict
    made(store)
    assert main(["sweep", "--show", sweeps(store)[0].id]) == 0
    assert REPORT.verdict in capsys.readouterr().err


def test_a_distillation_in_python_has_it_among_its_notes():
    store = Store()
    *_, student = trio(store)
    series = replicates_of(store, student)
    assert series is not None
    found = Experiment(store, series)
    assert found.audit == found.notes[-1] == REPORT.verdict
    assert REPORT.verdict in found._repr_html_()
