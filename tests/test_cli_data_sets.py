"""The verbs on data sets."""

import json
from pathlib import Path

import pytest
from made_leaks import make_clean, plant_copies

from kd.__main__ import main


def test_an_audit_prints_its_verdict_once_computed_and_then_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_clean(tmp_path / "set", 12, 6, 6)
    plant_copies(root)
    assert main(["audit", str(root)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("Scores on this data set cannot be believed: 2 of 14 (14 %)")
    assert "the nearest neighbour on 32 × 32 pixels" in shown.out
    assert "computing" in shown.err
    monkeypatch.setattr("kd.cli.data_sets.compute_here", lambda *_: pytest.fail("computed again"))
    assert main(["audit", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["believable"] == "no"
    assert found["verdict"] in shown.out
    assert {one["key"] for one in found["findings"]} >= {"copies-test", "contradictions", "small-test"}


def test_an_audit_of_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "/nowhere"]) == 2
    assert "There is no data set" in capsys.readouterr().err
