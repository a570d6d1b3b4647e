"""Rows of numbers as a table of models side by side, in words; and as a file."""

import io
from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from kd.runs import Run
from kd.scorecard import BYTES, COUNT, NATS, SECONDS, SHARE, TIMES, Row, Score, records
from pages.parts.common import count, percent, size, unbroken


def figure(value: float | None, unit: str) -> str:
    """A number in its unit; a dash where there is none."""
    if value is None:
        return "–"
    spelt = {SHARE: percent, COUNT: count, BYTES: size, NATS: lambda one: f"{one:.2f} nats",
             SECONDS: lambda one: f"{one * 1e3:.3g} ms", TIMES: lambda one: f"{one:.2f} ×"}
    return spelt[unit](value) if unit in spelt else f"{value:.3f}"


def between(row: Row) -> str:
    """The value with its interval: `97.5 % (95.1–98.9)`."""
    text = figure(row.value, row.unit)
    return text if row.low is None or row.high is None else f"{text} ({span(row.low, row.high, row.unit)})"


def span(low: float, high: float, unit: str) -> str:
    """`95.1–98.9`, without the unit."""
    return f"{bare(low, unit)}–{bare(high, unit)}"


def bare(value: float, unit: str) -> str:
    """A number without its unit."""
    return figure(value, unit).partition(" ")[0].replace("-", "−")


def side_by_side(rows: Sequence[Row], found: Mapping[str, Score], chance: str) -> None:
    """A measure a line, a model a column; `chance` heads what knowing nothing gives, where alike for all."""
    lines: dict[str, dict[str, str]] = {}
    apart = {row.measure for row in rows if len({other.chance for other in rows if other.measure == row.measure}) > 1}
    for row in rows:
        line = lines.setdefault(row.measure, {"": row.measure, **{heading(role, one.run): "" for role, one in
                                                                 found.items()}, chance: ""})
        own = f"; {chance.lower()} {figure(row.chance, row.unit)}" if row.measure in apart and row.chance is not None \
            else ""
        line[heading(row.role, found[row.role].run)] = unbroken(between(row)) + own
        if row.measure not in apart and row.chance is not None:
            line[chance] = unbroken(figure(row.chance, row.unit))
    kept = {key for line in lines.values() for key, text in line.items() if text}
    st.table([{key: text or "–" if key else text for key, text in line.items() if key in kept}
              for line in lines.values()], border="horizontal", hide_index=True,
             alt=f"{', '.join(lines)} of {', '.join(found)}")


def heading(role: str, run: Run) -> str:
    """`Student · plain5`."""
    return unbroken(f"{role.capitalize()} · {run.spec.model_label}")


def download(rows: Sequence[Row], name: str) -> None:
    """Every number that the page shows, with its interval and chance level, as a CSV file."""
    st.download_button("All numbers (CSV)", lambda: as_csv(rows), f"{name}.csv", "text/csv", on_click="ignore",
                       icon=":material/download:")


def as_csv(rows: Sequence[Row]) -> str:
    """A line per row."""
    buffer = io.StringIO()
    pd.DataFrame(records(rows)).to_csv(buffer, index=False)
    return buffer.getvalue()
