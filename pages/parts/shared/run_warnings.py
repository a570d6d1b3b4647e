"""What speaks against runs, on pages: warnings, the verdict on their data set, a mark beside a score that is no better
than guessing."""

from collections.abc import Iterable

import streamlit as st

from kd.audit.beside import brief_of, verdict_of
from kd.evaluation.run_warnings import beats_majority, run_warnings
from kd.store.runs import Run
from pages.parts.shared.format import percent, plain

MARK = "⚠"


def show_warnings(texts: Iterable[str]) -> None:
    """Draw the warnings in one box; nothing where there are none."""
    if lines := "\n\n".join(map(plain, texts)):
        st.warning(lines, icon=":material/warning:")


def data_verdict(run: Run) -> None:
    """Quote the audit of a run's data set; nothing where there is none."""
    if text := verdict_of(run):
        st.caption(f":material/policy: {plain(text)}")


def data_verdict_in_short(run: Run) -> None:
    """Quote the audit of a run's data set in few words; nothing where there is none."""
    if text := brief_of(run):
        st.caption(f":material/policy: {plain(text)}")


def in_short(run: Run) -> str:
    """The audit of a run's data set in few words, for tables; empty where there is none."""
    return brief_of(run).removeprefix("Audit: ")


def titles(run: Run) -> str:
    """A run's warnings in a few words each; mostly empty."""
    return ", ".join(warning.title for warning in run_warnings(run))


def score(run: Run) -> str:
    """A finished run's test accuracy, marked where it is no better than the majority class's; else its status."""
    summary = run.summary
    if summary is None:
        return run.status
    return percent(summary.get("accuracy")) + ("" if beats_majority(run) else f" {MARK} majority class")
