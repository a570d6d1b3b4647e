import pytest

from benchmarks import label_suspects
from benchmarks.audit import main


def test_every_phase_and_the_memory_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--count", "200", "--size", "32"])
    shown = capsys.readouterr().out
    for phase in ("Measuring images", "Comparing images", "Computing yardsticks", "Checking labels", "MB: own memory"):
        assert phase in shown


def test_found_wrong_labels_have_precision_and_recall(capsys: pytest.CaptureFixture[str]) -> None:
    label_suspects.main(["phantom-brain:count=80", "--draws", "1"])
    *_, row = capsys.readouterr().out.splitlines()
    assert row.split()[0] == "4"  # a twentieth was changed
    assert row.endswith("phantom-brain:count=80, 80 images")
