"""Results by share of the training images: chart, summary in words, and every number."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from kd.experiments.data_efficiency.curves import LearningCurves, learning_curves
from kd.experiments.data_efficiency.figure import draw
from kd.experiments.data_efficiency.report import as_csv, as_table, lines, note, summary_parts
from kd.experiments.sweep import Sweep
from kd.experiments.sweep.results import NOTICE, Row
from kd.store.runs import Store
from pages.parts.shared.context import store
from pages.parts.shared.format import percent, plain
from pages.parts.shared.theme import CHART
from pages.parts.sweep.data_efficiency_chart import study_chart

SHARES, POINTS = "%.1f %%", "%+.1f"
COLUMNS = {
    "model": st.column_config.TextColumn("Model"),
    "data_fraction": st.column_config.NumberColumn("Share", format="%g %%"),
    "training_images": st.column_config.NumberColumn("Images"),
    "passes": st.column_config.NumberColumn("Epochs", help="Epochs over these images."),
    "seeds": st.column_config.NumberColumn("Seeds", help="That have finished."),
    "test_accuracy": st.column_config.NumberColumn("Test accuracy", format=SHARES),
    "low": st.column_config.NumberColumn("from", format=SHARES, help="Its 95 % bootstrap interval."),
    "high": st.column_config.NumberColumn("to", format=SHARES),
    "sd": st.column_config.NumberColumn("± (seeds)", format=SHARES, help="Standard deviation over the seeds."),
    "minus_control_points": st.column_config.NumberColumn("Gain over control", format=POINTS, help="Student − control "
                                                          "with the same images, in points, paired by test image."),
    "minus_control_low": st.column_config.NumberColumn("from", format=POINTS, help="Its 95 % bootstrap interval."),
    "minus_control_high": st.column_config.NumberColumn("to", format=POINTS),
    "minus_control_with_most_points": st.column_config.NumberColumn(
        "Gain over control with most data", format=POINTS, help="Minus the control with the largest share, in points."),
    "minus_control_with_most_low": st.column_config.NumberColumn("from", format=POINTS, help="Its 95 % bootstrap "
                                                                 "interval."),
    "minus_control_with_most_high": st.column_config.NumberColumn("to", format=POINTS),
}
PERCENT = ("data_fraction", "test_accuracy", "low", "high", "sd")


def section(sweep: Sweep, rows: Sequence[Row]) -> None:
    """Draw the results so far; nothing for a sweep without shares of the data."""
    found = learning_curves(sweep, rows, store())
    if not found:
        return
    st.subheader("Accuracy and data", anchor=False)
    study = _chosen(sweep, found)
    opening, students, rest = summary_parts(study, lambda words: f"**{words}**")
    st.markdown("\n".join([opening, "", *(f"- {one}" for one in students), "", *rest]))
    st.plotly_chart(study_chart(study), config=CHART, key=f"study-{sweep.id}",
                    alt="Test accuracy of control and students against the share of the training images")
    st.caption(f"{note(study)} Always the most frequent class: {percent(study.majority)}. {NOTICE}")
    frame = as_frame(study)
    st.dataframe(frame, hide_index=True, column_config=COLUMNS, placeholder="–", key=f"points-{sweep.id}",
                 height=min(460, 38 + 35 * len(frame)), alt="Every model with every share of the data")
    _downloads(sweep, study, found, rows, store())


def _chosen(sweep: Sweep, found: Sequence[LearningCurves]) -> LearningCurves:
    """One study per control: which of them."""
    if len(found) == 1:
        return found[0]
    by_title = {one.title: one for one in found}
    title = st.selectbox("Of", list(by_title), key=f"study-of-{sweep.id}", format_func=plain, persist_state="session")
    return by_title[title]


def _downloads(
    sweep: Sweep, study: LearningCurves, found: Sequence[LearningCurves], rows: Sequence[Row], runs: Store
) -> None:
    with st.container(horizontal=True):
        st.download_button("Figure (PNG)", lambda: draw(study), f"{sweep.id}.png", "image/png", on_click="ignore",
                           icon=":material/image:")
        st.download_button("Its numbers (CSV)", lambda: as_csv(sweep, found, rows, runs), f"{sweep.id}-data.csv",
                           "text/csv", on_click="ignore", icon=":material/download:")
        st.download_button("Its table (LaTeX)", lambda: as_table(found), f"{sweep.id}-data.tex", "text/x-tex",
                           on_click="ignore", icon=":material/table:")


def as_frame(study: LearningCurves) -> pd.DataFrame:
    """One row a point; numbers stay numbers, so that columns sort."""
    frame = pd.DataFrame(lines(study))[list(COLUMNS)]
    return frame.assign(**{name: 100 * pd.to_numeric(frame[name]) for name in PERCENT})
