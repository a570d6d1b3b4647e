"""Rows of numbers as a table of models side by side, in words; and as a file."""

import io
from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from kd.evaluation import row_words
from kd.evaluation.report import MetricRow, ModelReport, records
from kd.evaluation.row_words import between, by_section, excess, figure
from kd.latex import as_latex
from kd.roles import EIGHT_BIT
from kd.store.runs import Run
from pages.parts.shared.format import unbroken

UNBROKEN = "\u2011"  # a hyphen at which a narrow column does not break a name
# What stands in brackets, for captions.
INTERVALS = ("95 % bootstrap intervals. A value without one is of fewer than five images or patients, or the same "
             "for all of them")


def side_by_side(rows: Sequence[MetricRow], found: Mapping[str, ModelReport], baseline: str = "Baseline",
                 names: Mapping[str, str] | None = None) -> None:
    """A measure a line, a model a column; `baseline` heads the baseline column, where it is the same for all. names: of
    the models, where not by their roles."""
    heads = {role: heading((names or {}).get(role, role), one.run) for role, one in found.items()}
    lines = row_words.side_by_side(rows, heads, baseline)
    st.table([{key: unbroken(text) if key else text for key, text in line.items()} for line in lines],
             border="horizontal", hide_index=True,
             alt=f"{', '.join(line[''] for line in lines)} of {', '.join(found)}")


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


def heading(role: str, run: Run) -> str:
    """`Student · plain5`; an 8-bit student's model is the student's."""
    if role == EIGHT_BIT:
        return unbroken(capital(role).replace("-", UNBROKEN))
    return unbroken(f"{capital(role)} · {run.label}")


def download(rows: Sequence[MetricRow], found: Mapping[str, ModelReport], name: str) -> None:
    """Every number that the page shows, with its interval and baseline: as a CSV file, and as tables to print."""
    heads = {role: f"{capital(role)} {one.run.label}" for role, one in found.items()}
    with st.container(horizontal=True):
        st.download_button("All numbers (CSV)", lambda: as_csv(rows), f"{name}.csv", "text/csv", on_click="ignore",
                           icon=":material/download:")
        st.download_button("Tables (LaTeX)", lambda: as_latex(by_section(rows, heads), f"{name}. In brackets 95 % "
                                                              "intervals."),
                           f"{name}.tex", "text/x-tex", on_click="ignore", icon=":material/table:")


def as_csv(rows: Sequence[MetricRow]) -> str:
    """A line per row."""
    buffer = io.StringIO()
    pd.DataFrame(records(rows)).to_csv(buffer, index=False)
    return buffer.getvalue()
