from kd.timing import measure


def test_warm_up_is_outside_the_count():
    calls = []
    timing = measure(lambda: calls.append(1), repeats=3, warmup=2)
    assert len(calls) == 5
    assert (timing.n, timing.warmup) == (3, 2)
    assert timing.low <= timing.median <= timing.high
    assert "median of 3" in str(timing)
