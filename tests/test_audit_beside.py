"""Runs beside the audit of their data set."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_leaks import make_clean
from made_runs import CONTROL, made

from kd.__main__ import main
from kd.audit import report
from kd.audit.audit import audit
from kd.audit.beside import audit_of, beside_yardstick, verdict_of
from kd.audit.report import AuditReport
from kd.datasets import open_dataset
from kd.evaluation.run_warnings import run_warnings
from kd.store.runs import Run, Store


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def audited(store, tmp_path) -> AuditReport:
    return audit(str(make_clean(tmp_path / "set", 10, 6, 20)), store.paths)


def scored(store: Store, audited: AuditReport, wrong: int, names: tuple[str, ...] = ()) -> Run:
    """A run that is right on all test images but the first so many."""
    data = open_dataset(audited.reference, audited.size, store.paths)
    run = made(store, replace(CONTROL, data=audited.reference, data_fingerprint=audited.fingerprint, seed=wrong),
               audited.classes)
    logits = np.eye(2)[data.test.labels]
    logits[:wrong] = 1 - logits[:wrong]
    np.savez(run.path / "predictions.npz", logits=logits, labels=data.test.labels,
             names=np.array(names or data.test.names), groups=np.array(()))
    return run


def test_a_run_quotes_the_verdict_on_its_data_set(store, audited):
    assert verdict_of(scored(store, audited, 0)) == audited.verdict
    assert verdict_of(made(store, CONTROL)) == ""
    assert beside_yardstick(made(store, CONTROL)) is None


def test_a_run_that_is_no_better_than_the_rule_says_so(store, audited):
    poor = beside_yardstick(scored(store, audited, 30))
    assert poor is not None
    assert not poor.beaten
    assert poor.accuracy == 0.25
    assert poor.difference.mean == pytest.approx(0.25 - audited.to_beat.accuracy["mean"])
    assert "A test accuracy of 25.0 % does not beat the yardstick" in poor.sentence
    assert audited.to_beat.in_words in poor.sentence


def test_a_run_that_is_better_beats_it(store, audited):
    answers = report.answers(audited.fingerprint, store.paths)
    assert answers is not None
    answers[audited.beat] = 1 - answers["labels"]
    report.save(audited, answers, store.paths)
    best = beside_yardstick(scored(store, audited, 0))
    assert best is not None
    assert best.beaten
    assert "beats the yardstick" in best.sentence


def test_other_test_images_are_not_compared(store, audited):
    names = tuple(f"other-{number}" for number in range(40))
    run = scored(store, audited, 0, names)
    assert beside_yardstick(run) is None
    assert audit_of(run) == audited


def test_a_run_above_the_majority_class_and_below_the_rule_is_warned_of_and_quotes_the_audit(store, audited, capsys):
    answers = report.answers(audited.fingerprint, store.paths)
    assert answers is not None
    report.save(audited, {**answers, audited.beat: answers["labels"]}, store.paths)
    run = scored(store, audited, 8)
    [warning] = run_warnings(run)
    assert warning.title == "no better than the yardstick"
    assert "80.0 % does not beat the yardstick of this data set" in warning.text
    assert main(["show", run.id, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out.splitlines()[-1])["audit"] == audited.verdict
    assert audited.verdict in shown.err
