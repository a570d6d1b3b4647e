import time

from kd.timing import Stopwatch, measure, measure_in_turn, summarise


def test_warm_up_is_outside_the_count():
    calls = []
    timing = measure(lambda: calls.append(1), repeats=3, warmup=2)
    assert len(calls) == 5
    assert (timing.n, timing.warmup) == (3, 2)
    assert timing.low <= timing.median <= timing.high
    assert "median of 3" in str(timing)


def test_calls_take_turns_and_only_counted_ones_are_timed():
    order = []
    seconds = measure_in_turn([lambda: order.append("a"), lambda: order.append("b")], repeats=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert [len(each) for each in seconds] == [2, 2]


def test_a_timing_is_the_median_and_the_extremes():
    timing = summarise([3.0, 1.0, 8.0], warmup=2)
    assert (timing.median, timing.low, timing.high, timing.n, timing.warmup) == (3.0, 1.0, 8.0, 3, 2)


def test_a_part_within_another_counts_for_itself_alone(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Stopwatch()
    with clock("outer"):
        now[0] += 1
        with clock("inner"):
            now[0] += 10
        now[0] += 2
    now[0] += 100
    with clock("inner"):
        now[0] += 5
    assert clock.seconds == {"outer": 3, "inner": 15}
