"""Rows of numbers in words: each in its unit, with its interval, and models side by side."""

from collections.abc import Mapping, Sequence

from kd.evaluation.report import BYTES, COUNT, NATS, SECONDS, SHARE, TIMES, MetricRow
from kd.wording import count, percent, size


def figure(value: float | None, unit: str) -> str:
    """A number in its unit; a dash where there is none."""
    if value is None:
        return "–"
    spelt = {SHARE: percent, COUNT: count, BYTES: size, NATS: lambda one: f"{one:.2f} nats",
             SECONDS: lambda one: f"{one * 1e3:.3g} ms", TIMES: lambda one: f"{one:.2f} ×"}
    text = spelt[unit](value) if unit in spelt else f"{value:.3f}"
    return text.replace("-", "−" if any(digit in text for digit in "123456789") else "")


def between(row: MetricRow) -> str:
    """The value with its interval: `97.5 % (95.1–98.9)`."""
    text = figure(row.value, row.unit)
    if row.low is None or row.high is None:
        return text
    dash = " to " if row.low < 0 else "–"
    return f"{text} ({bare(row.low, row.unit)}{dash}{bare(row.high, row.unit)})"


def bare(value: float, unit: str) -> str:
    """A number without its unit."""
    return figure(value, unit).partition(" ")[0]


def excess(row: MetricRow) -> str:
    """`+0.41 (0.22 to 0.59)`."""
    return gap(row.excess, row.excess_low, row.excess_high, row.unit)


def gap(value: float | None, low: float | None, high: float | None, unit: str) -> str:
    """A difference with its interval; of shares in points: `+12.5 points (−0.8 to 26.7)`."""
    if value is None:
        return "–"
    sign = "+" if value > 0 else ""
    text = f"{sign}{bare(value, unit)} points" if unit == SHARE else f"{sign}{figure(value, unit)}"
    return text if low is None or high is None else f"{text} ({bare(low, unit)} to {bare(high, unit)})"


def side_by_side(rows: Sequence[MetricRow], heads: Mapping[str, str], baseline: str = "Baseline"
                 ) -> list[dict[str, str]]:
    """Table of a measure a line and a model a column; a column of baselines where they are the same for all models.

    heads: of the columns, by role; rows of other roles are left out.
    """
    rows = [row for row in rows if row.role in heads]
    lines: dict[str, dict[str, str]] = {}
    apart = {row.measure for row in rows if len({other.chance for other in rows if other.measure == row.measure}) > 1}
    for row in rows:
        line = lines.setdefault(row.measure, {"": row.measure, **dict.fromkeys(heads.values(), ""), baseline: ""})
        own = ""
        if row.measure in apart and row.chance is not None:
            own = f"; {baseline.lower()} {figure(row.chance, row.unit)}"
        line[heads[row.role]] = between(row) + own
        if row.measure not in apart and row.chance is not None:
            line[baseline] = figure(row.chance, row.unit)
    kept = {key for line in lines.values() for key, text in line.items() if text}
    return [{key: text or "–" if key else text for key, text in line.items() if key in kept}
            for line in lines.values()]


def by_section(rows: Sequence[MetricRow], heads: Mapping[str, str]) -> list[list[dict[str, str]]]:
    """Tables of `side_by_side`, one for each section and what its rows are of, whose name heads the first column."""
    parts: dict[str, list[MetricRow]] = {}
    for row in rows:
        parts.setdefault(", ".join(filter(None, (row.section, row.of))), []).append(row)
    tables = {name: side_by_side(part, heads) for name, part in parts.items()}
    return [[{(key or name): text for key, text in line.items()} for line in lines]
            for name, lines in tables.items() if lines]
