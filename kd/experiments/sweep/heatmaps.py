"""Heat maps of a sweep: grids of one score over two settings, one grid per combination of the others."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kd.experiments.sweep.results import Row
from kd.experiments.sweep.words import Value, describe
from kd.metrics.bootstrap import error_bars

DOWN, ACROSS = "alpha", "temperature"
ACCURACY, VALIDATION, GAIN = MEASURES = ("test accuracy", "validation macro-F1", "student − control")


@dataclass(frozen=True)
class Grid:
    """Scores of the cells that are equal in all but two settings.

    title: their equal settings, in words. down, across: names of the settings on the sides, empty where nothing varies
    in that direction; downs, acrosses: their values. values, rows: [down, across], score and cell there, or None.
    """

    title: str
    down: str
    downs: tuple[Value, ...]
    across: str
    acrosses: tuple[Value, ...]
    values: tuple[tuple[float | None, ...], ...]
    rows: tuple[tuple[Row | None, ...], ...]


def grids(rows: Sequence[Row], measure: str) -> list[Grid]:
    """One grid per combination of what varies besides the two settings on its sides, in the cells' order.

    Settings in words (methods, students) never make a side. A method's own settings make the sides of its grids.
    """
    found = []
    for alike in _parted(rows, {name for row in rows for name, value in row.settings.items()
                                if not isinstance(value, str)}).values():
        across, down = _sides(alike)
        found += [_grid(title, inner, down, across, measure)
                  for title, inner in _parted(alike, {across, down}).items()]
    return found


def single(found: Sequence[Grid]) -> list[tuple[str, Row]]:
    """(title, cell) of every grid, where none has more than one cell: only methods or students vary, and a bar chart is
    clearer than many small maps. Else empty."""
    cells = [(grid.title, grid.rows[0][0]) for grid in found]
    alone = len(found) > 1 and all(len(grid.downs) == len(grid.acrosses) == 1 for grid in found)
    return [(title, row) for title, row in cells if row] if alone else []


def spread(row: Row, measure: str) -> tuple[float, float]:
    """Lengths of a score's error bars: of the 95 % interval of a gain, of the seeds' standard deviation of other
    scores; 0 where there is none."""
    student = row.arm("student")
    if student is None or row.outcome is None:
        return 0.0, 0.0
    if measure == GAIN:
        bought = row.outcome.vs_control
        return error_bars(bought.value, bought.low, bought.high)
    sd = (student.accuracy if measure == ACCURACY else student.val_macro_f1).sd or 0.0
    return sd, sd


def score(row: Row, measure: str) -> float | None:
    """Score of the student over the finished seeds: 0..1, or points for the gain; None before the first."""
    student = row.arm("student")
    if student is None or row.outcome is None:
        return None
    return {ACCURACY: student.accuracy.mean, VALIDATION: student.val_macro_f1.mean,
            GAIN: row.outcome.vs_control.value}[measure]


def reach(rows: Sequence[Row], measure: str) -> tuple[float, float]:
    """Ends of a colour scale for all of these scores; symmetric around 0 for the gain. The ends always differ."""
    known = [value for row in rows if (value := score(row, measure)) is not None] or [0.0]
    if measure == GAIN:
        most = max(1.0, *map(abs, known))
        return -most, most
    low, high = min(known), max(known)
    return (low, high) if high - low > 0.01 else (low - 0.005, high + 0.005)


def _parted(rows: Sequence[Row], free: Collection[str]) -> dict[str, list[Row]]:
    """Rows grouped by all settings except the free ones; the keys are these settings in words."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        alike = describe({name: value for name, value in row.settings.items() if name not in free})
        found.setdefault(alike, []).append(row)
    return found


def _sides(rows: Sequence[Row]) -> tuple[str, str]:
    """(across, down): temperature and alpha where they vary, else the last settings that do; empty where none is left.
    """
    vary = [name for name, value in rows[0].settings.items() if not isinstance(value, str)
            and len({row.settings[name] for row in rows}) > 1]
    if len(vary) < 2:
        return "".join(vary), ""
    across = ACROSS if ACROSS in vary else [name for name in vary if name != DOWN][-1]
    left = [name for name in vary if name != across]
    return across, DOWN if DOWN in left else left[-1]


def _grid(title: str, rows: Sequence[Row], down: str, across: str, measure: str) -> Grid:
    downs, acrosses = (tuple(dict.fromkeys(row.settings[name] for row in rows)) if name else ("",)
                       for name in (down, across))
    places = {(row.settings.get(down, ""), row.settings.get(across, "")): row for row in rows}
    found = tuple(tuple(places.get((one, other)) for other in acrosses) for one in downs)
    values = tuple(tuple(score(row, measure) if row else None for row in line) for line in found)
    return Grid(title, down, downs, across, acrosses, values, found)
