import pytest

from benchmarks.audit import main


def test_every_phase_and_the_memory_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--count", "200", "--size", "32"])
    shown = capsys.readouterr().out
    for phase in ("Measuring images", "Comparing images", "Computing yardsticks", "Checking labels", "MB own memory"):
        assert phase in shown
