import pytest

from kd.errors import Stopped
from kd.progress import PhaseProgress, ProgressReporter


def test_a_new_phase_is_reported_at_once_and_the_rest_now_and_then():
    reported = []
    rare = ProgressReporter(lambda *values, **more: reported.append((*values, more)), every=3600)
    rare("decoding", 0.1)
    rare("decoding", 0.2)
    rare("training", step=1)
    rare("training", step=2)
    assert reported == [("decoding", 0.1, {}), ("training", {"step": 1})]
    always = ProgressReporter(lambda phase, share: reported.append(share), every=-1)
    always("a", 0.5)
    always("a", 0.6)
    assert reported[2:] == [0.5, 0.6]


def test_phases_make_up_a_whole_that_never_goes_back():
    reported, stop = [], []
    progress = PhaseProgress(lambda phase, share: reported.append((phase, share)), lambda: bool(stop), 4.0)
    with progress.phase("one", 1.0):
        progress(0.5)
        progress(0.2)
    with progress.phase("three", 3.0):
        progress(1.0)
    assert [phase for phase, _ in reported] == ["one"] * 3 + ["three"] * 2
    shares = [share for _, share in reported]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.02, pytest.approx(1.0))
    stop.append(True)
    with pytest.raises(Stopped):
        progress(0.5)
