"""Cost table, timings and downloads of a comparison."""

import json
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from numpy.typing import NDArray

from kd.explainers import EXPLAINERS
from kd.inspection.compare import HIERARCHY, MASK, Comparison, ModelPanel
from kd.inspection.explain import Explanation, pack, protocol_line
from kd.roles import COLOURS, MARKS
from kd.timing import Timing
from pages.parts.shared.format import count, percent, plain, tick, unbroken
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
    rows = [row for part in comparison.panels for row in _part_rows(part)]
    title = EXPLAINERS[comparison.explainer].info.title
    ratio = comparison.ratios()
    masks = ", mask" if MASK in ratio else ""
    st.table(rows, border="horizontal", hide_index=True,
             alt=f"Times of forward pass, {title}{masks} and stage maps per model")
    once = " Slow explanations were timed once." if EXPLAINERS[comparison.explainer].info.cost != "instant" else ""
    also = f", its mask {_plain(ratio[MASK])} times" if MASK in ratio else ""
    st.caption(f"The student's stage maps are computed {_plain(ratio[HIERARCHY])} times as fast as the "
               f"teacher's {title}{also}. "
               + protocol_line(comparison.teacher.explanation.protocol) + once)


def _plain(number: float) -> str:
    """Three figures, never as a power of ten."""
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:,.0f}"


def _part_rows(part: ModelPanel) -> list[dict[str, str]]:
    title = EXPLAINERS[part.explanation.explainer].info.title
    rows = [
        _row(part, "forward", part.explanation.forward, "1"),
        _row(part, title, part.explanation.timing, _ratio(part.explanation)),
    ]
    rows += [_row(part, EXPLAINERS[extra.explainer].info.title, extra.timing, _ratio(extra))
             for extra in part.main_maps[1:]]
    if part.stage_maps:
        rows.append(_row(part, "stage maps", part.stage_maps.timing, _ratio(part.stage_maps)))
    return rows


def _ratio(one: Explanation) -> str:
    return f"{one.ratio:.2f}" if one.ratio < 10 else _plain(one.ratio)


def _row(part: ModelPanel, what: str, timing: Timing, ratio: str) -> dict[str, str]:
    low, median, high = (_plain(seconds * 1e3) for seconds in (timing.low, timing.median, timing.high))
    spread = f"{low}–{high}" if timing.n > 1 else ""
    cells = {
        "": f"{part.role.capitalize()} · {what}",
        "Median": f"{median} ms",
        "Spread (ms)": spread,
        "n": str(timing.n),
        "×\u00a0forward": ratio,
        "FLOPs": count(part.explanation.flops) if what == "forward" else "",
    }
    return {name: unbroken(text) for name, text in cells.items()}


def takeaway(comparison: Comparison, figures: dict[str, Callable[[], bytes]], arrays: Callable[[], dict[str, NDArray]],
             numbers: Callable[[], dict[str, Any]]) -> None:
    """One button per figure, one for the raw maps, one for the numbers. Each is made when it is pressed."""
    name = f"{comparison.student.explanation.run.id}-{comparison.target}".replace(" ", "_")
    with st.container(horizontal=True):
        for label, figure in figures.items():
            st.download_button(f"{label} (PNG)", figure, f"{name}-{label.lower()}.png", "image/png",
                               icon=":material/image:", on_click="ignore")
        st.download_button("Maps (npz)", lambda: pack(arrays()), f"{name}.npz", "application/octet-stream",
                           icon=":material/grid_on:", on_click="ignore")
        st.download_button("Numbers (JSON)", lambda: json.dumps(numbers(), indent=1), f"{name}.json",
                           "application/json", icon=":material/data_object:", on_click="ignore")
