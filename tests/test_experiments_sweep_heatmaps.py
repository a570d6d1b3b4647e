import pytest
from made_sweep import SWEEP, made

from kd.experiments.sweep import Sweep, plan
from kd.experiments.sweep.heatmaps import ACCURACY, GAIN, MEASURES, VALIDATION, grids, reach, score, single, spread
from kd.experiments.sweep.results import table
from kd.store.runs import Store


@pytest.fixture
def store():
    return Store()


def of(store, base=SWEEP.base, **axes):
    sweep = Sweep(base, axes)
    plan(sweep, store)
    return grids(table(sweep, store), ACCURACY)


def test_alpha_goes_down_and_temperature_across_for_every_depth(store):
    found = of(store, temperature=(5, 10, 15), depth=(2, 3), alpha=(0.4, 0.7))
    assert [grid.title for grid in found] == ["depth 2", "depth 3"]
    assert {(grid.down, grid.across) for grid in found} == {("alpha", "temperature")}
    assert (found[0].downs, found[0].acrosses) == ((0.4, 0.7), (5.0, 10.0, 15.0))
    assert found[1].rows[1][2].settings == {"depth": 3, "alpha": 0.7, "temperature": 15.0}
    assert found[0].values == ((None,) * 3,) * 2


def test_a_method_has_grids_of_its_own_settings(store):
    found = of(store, method=("kd", "dkd"), width=(4, 8), alpha=(0.4, 0.7), temperature=(5, 10),
               non_target_weight=(1, 2))
    assert [(grid.title, grid.down, grid.across) for grid in found] == [
        ("kd, width 4", "alpha", "temperature"), ("kd, width 8", "alpha", "temperature"),
        ("dkd, width 4", "non_target_weight", "temperature"), ("dkd, width 8", "non_target_weight", "temperature")]
    assert all(cell for grid in found for line in grid.rows for cell in line)


def test_other_settings_make_the_sides_where_there_is_no_alpha(store):
    [one] = of(store, depth=(2, 3), width=(4, 8))
    assert (one.down, one.across) == ("depth", "width")
    [line] = of(store, depth=(2, 3, 4))
    assert (line.down, line.downs, line.across, line.acrosses) == ("", ("",), "depth", (2, 3, 4))
    single = of(store, student=("plain", "timm:test_efficientnet"))
    assert [(grid.title, grid.across, len(grid.rows)) for grid in single] == [
        ("plain", "", 1), ("timm:test_efficientnet", "", 1)]


def test_scores_and_their_scale(store):
    made(store)
    rows = table(SWEEP, store)
    [grid] = grids(rows, ACCURACY)
    assert grid.values == tuple(tuple(score(row, ACCURACY) for row in line) for line in grid.rows)
    assert reach(rows, ACCURACY) == (score(rows[0], ACCURACY), score(rows[2], ACCURACY))
    assert reach(rows, VALIDATION) == (0.8, 0.9)
    low, high = reach(rows, GAIN)
    assert low == -high
    assert high == pytest.approx(max(abs(score(row, GAIN)) for row in rows))


@pytest.mark.parametrize("measure", MEASURES)
def test_a_scale_has_two_ends_even_without_scores(store, measure):
    plan(SWEEP, store)
    low, high = reach(table(SWEEP, store), measure)
    assert low < high


def test_cells_that_differ_in_words_only_are_a_list(store):
    sweep = Sweep(SWEEP.base, {"method": ("kd", "dkd", "at")})
    made(store, sweep)
    cells = single(grids(table(sweep, store), ACCURACY))
    assert [title for title, _ in cells] == ["kd", "dkd", "at"]
    assert [row.settings["method"] for _, row in cells] == ["kd", "dkd", "at"]
    assert not single(of(store, alpha=(0.4, 0.7)))
    row = cells[0][1]
    below, above = spread(row, GAIN)
    assert row.outcome.vs_control.value - below == pytest.approx(row.outcome.vs_control.low)
    assert row.outcome.vs_control.value + above == pytest.approx(row.outcome.vs_control.high)
    assert spread(row, ACCURACY) == (row.arm("student").accuracy.sd,) * 2
