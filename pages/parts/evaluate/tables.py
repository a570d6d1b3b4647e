"""Rows of numbers as a table of models side by side, in words; and as a file."""

import io
from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from kd.evaluation.report import BYTES, COUNT, NATS, SECONDS, SHARE, TIMES, MetricRow, ModelReport, records
from kd.roles import EIGHT_BIT
from kd.store.runs import Run
from pages.parts.shared.format import count, percent, size, unbroken

UNBROKEN = "\u2011"  # a hyphen at which a narrow column does not break a name
# What stands in brackets, for captions.
INTERVALS = ("95 % bootstrap intervals. A value without one is of fewer than five images or patients, or the same "
             "for all of them")


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


def side_by_side(rows: Sequence[MetricRow], found: Mapping[str, ModelReport], baseline: str = "Baseline",
                 names: Mapping[str, str] | None = None) -> None:
    """A measure a line, a model a column; `baseline` heads the baseline column, where it is the same for all. names: of
    the models, where not by their roles."""
    heads = {role: heading((names or {}).get(role, role), one.run) for role, one in found.items()}
    rows = [row for row in rows if row.role in found]
    lines: dict[str, dict[str, str]] = {}
    apart = {row.measure for row in rows if len({other.chance for other in rows if other.measure == row.measure}) > 1}
    for row in rows:
        line = lines.setdefault(row.measure, {"": row.measure, **dict.fromkeys(heads.values(), ""), baseline: ""})
        own = ""
        if row.measure in apart and row.chance is not None:
            own = f"; {baseline.lower()} {figure(row.chance, row.unit)}"
        line[heads[row.role]] = unbroken(between(row)) + own
        if row.measure not in apart and row.chance is not None:
            line[baseline] = unbroken(figure(row.chance, row.unit))
    kept = {key for line in lines.values() for key, text in line.items() if text}
    st.table([{key: text or "–" if key else text for key, text in line.items() if key in kept}
              for line in lines.values()], border="horizontal", hide_index=True,
             alt=f"{', '.join(lines)} of {', '.join(found)}")


def beside_chance(rows: Sequence[MetricRow], names: Mapping[str, str], centre: str, baseline: str = "Baseline") -> None:
    """A line per measure and model, for numbers that mean nothing without their baseline. names: of the models."""
    st.table([{"": row.measure, "Model": capital(names[row.role]), "Value": unbroken(between(row)),
               baseline: unbroken(figure(row.chance, row.unit)), centre: unbroken(figure(row.centre, row.unit)),
               "Above baseline": unbroken(excess(row))} for row in in_order(rows)],
             border="horizontal", hide_index=True, alt="Measures by model, beside the baseline")


def capital(name: str) -> str:
    """A first letter in large; `capitalize` would make the others small."""
    return name[:1].upper() + name[1:]


def in_order(rows: Sequence[MetricRow]) -> list[MetricRow]:
    """The rows with the models of one measure together, measures in their order."""
    order = list(dict.fromkeys(row.measure for row in rows))
    return sorted(rows, key=lambda row: order.index(row.measure))


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


def heading(role: str, run: Run) -> str:
    """`Student · plain5`; an 8-bit student's model is the student's."""
    if role == EIGHT_BIT:
        return unbroken(capital(role).replace("-", UNBROKEN))
    return unbroken(f"{capital(role)} · {run.label}")


def download(rows: Sequence[MetricRow], name: str) -> None:
    """Every number that the page shows, with its interval and baseline, as a CSV file."""
    st.download_button("All numbers (CSV)", lambda: as_csv(rows), f"{name}.csv", "text/csv", on_click="ignore",
                       icon=":material/download:")


def as_csv(rows: Sequence[MetricRow]) -> str:
    """A line per row."""
    buffer = io.StringIO()
    pd.DataFrame(records(rows)).to_csv(buffer, index=False)
    return buffer.getvalue()
