"""Cost table, timings and downloads of a comparison."""


import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from kd.explainers import EXPLAINERS
from kd.inspection.compare import HIERARCHY, MASK, Comparison, ModelPanel
from kd.inspection.cost_rows import cost_rows, plainly
from kd.inspection.explain import protocol_line
from kd.latex import as_latex
from kd.roles import COLOURS, MARKS
from pages.parts.shared.format import percent, plain, tick, unbroken
from pages.parts.shared.theme import CHART, tidy


def probabilities(comparison: Comparison, truth: str | None) -> None:
    """Probability of every class by every model, with the true class marked."""
    st.subheader("Probabilities", anchor=False)
    classes = comparison.teacher.explanation.classes
    st.markdown(
        "  \n".join(
            f"{MARKS[part.role]} {part.role.capitalize()}: **{plain(classes[part.explanation.predicted])}** "
            f"{percent(float(part.explanation.probabilities.max()))}"
            f"{' ✓' if classes[part.explanation.predicted] == truth else ''}"
            for part in comparison.panels
        )
    )
    ticks = [f"<b>{tick(name)} ✓</b>" if name == truth else tick(name) for name in classes]
    figure = go.Figure([_bars(part, ticks) for part in comparison.panels])
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(range=[0, 1.02], tickformat=".0%")
    figure.update_yaxes(autorange="reversed")
    tidy(figure, 110 + 26 * len(classes) * max(2, len(comparison.panels))).update_layout(hovermode="y unified")
    st.plotly_chart(figure, config=CHART, key="compare_probabilities",
                    alt="Probability of every class by every model")
    st.caption("✓ marks the true class." if truth else "The true class of an upload is not known.")


def _bars(part: ModelPanel, ticks: list[str]) -> go.Bar:
    return go.Bar(y=ticks, x=list(part.explanation.probabilities), name=part.role, orientation="h",
                  marker_color=COLOURS[part.role], hovertemplate="%{x:.1%}")


def costs(comparison: Comparison) -> None:
    """Times of forward pass, map and stage maps per model."""
    st.subheader("Cost", anchor=False)
    rows = cost_rows(comparison)
    title = EXPLAINERS[comparison.explainer].info.title
    ratio = comparison.ratios()
    masks = ", mask" if MASK in ratio else ""
    st.table([{name: unbroken(text) for name, text in row.words().items()} for row in rows],
             border="horizontal", hide_index=True,
             alt=f"Times of forward pass, {title}{masks} and stage maps per model")
    once = " Slow explanations were timed once." if EXPLAINERS[comparison.explainer].info.cost != "instant" else ""
    also = f", its mask {plainly(ratio[MASK])} times" if MASK in ratio else ""
    st.caption(f"The student's stage maps are computed {plainly(ratio[HIERARCHY])} times as fast as the "
               f"teacher's {title}{also}. "
               + protocol_line(comparison.teacher.explanation.protocol) + once)
    name = f"costs-{comparison.student.explanation.run.id}-{comparison.explainer}"
    with st.container(horizontal=True):
        st.download_button("Costs (CSV)", lambda: pd.DataFrame([row.to_json() for row in rows]).to_csv(index=False),
                           f"{name}.csv", "text/csv", icon=":material/download:", on_click="ignore", type="tertiary")
        st.download_button("Costs (LaTeX)", lambda: as_latex([row.words() for row in rows], "Times of one image."),
                           f"{name}.tex", "text/x-tex", icon=":material/table:", on_click="ignore", type="tertiary")
