"""What a teacher decides when it is shown only what a map marks, and only the rest: the mask beside other maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from kd.evaluation.explanation_rows import MAPS, NAMES, interval_ends
from kd.evaluation.report import MetricRow
from pages.parts.evaluate.charts import error_bars
from pages.parts.evaluate.explanation_charts import SHIFT
from pages.parts.evaluate.tables import INTERVALS, between, excess, gap
from pages.parts.shared.format import percent, tick, unbroken
from pages.parts.shared.theme import CHART, tidy

KEPT, LEFT = (NAMES[score][0] for score in ("kept", "left"))
# After Okabe and Ito, and none of the models' hues: the best map has the one far right and the other far left.
SHAPES = {KEPT: ("kept on the marked part", "#009E73", "circle"), LEFT: ("left on the rest", "#CC79A7", "diamond-open")}
MASK, CAM, SHAP, RANDOM = "mask", "grad-cam", "gradient-shap", "random"  # of MAPS


def posthoc(result: Mapping[str, Any], made: Sequence[MetricRow], over: Sequence[MetricRow]) -> None:
    """A sentence, a chart and a table; then by how much the mask is better than each other map. made: two rows per map;
    over: the mask beside each other map."""
    st.markdown(_sentence(made, over, result["area"]["mean"]))
    st.plotly_chart(posthoc_chart(made, result["stage"]), config=CHART, key="evaluate_posthoc",
                    alt="Share of the pictures whose decision the teacher keeps on the marked part and on the rest, "
                        "by map")
    st.table(_table(made, result["stage"]), border="horizontal", hide_index=True,
             alt="Decisions kept on the marked part and left on the rest, by map")
    area = result["area"]
    blank = ", ".join(f"{count} of {MAPS[name]}" for name, count in result["blank"].items() if count)
    st.caption(f"{result['images']:,} pictures, filled where hidden as the student's are. Every map marks as much of a "
               f"picture as the mask shows of it: on average {_with_ends(area)}. The mask as the student sees it is "
               "soft, so none of the others is its equal by chance. The teacher's maps are of its own answer. In "
               f"brackets {INTERVALS}. Those against random are of the same pictures, and positive is better under "
               "both."
               + (f" Blank maps, which mark at random: {blank}." if blank else ""))
    st.markdown("**The mask beside the other maps**")
    st.table(_beside(over, result["stage"]), border="horizontal", hide_index=True,
             alt="By how much the mask is better than each other map")
    st.caption("Differences on the same pictures: how much more is kept, how much less is left, how much more of the "
               "evidence is found. Positive: the mask, cut to its area, is better; an interval that leaves out 0 tells."
               + ("" if result["evidence"] else " No test picture comes with a mask of its evidence."))


def posthoc_chart(made: Sequence[MetricRow], stages: Mapping[str, str]) -> go.Figure:
    """A line per map with two points, and what a random map has as dotted lines."""
    names = list(dict.fromkeys(row.of for row in made))
    figure = go.Figure()
    for (measure, (name, colour, shape)), shift in zip(SHAPES.items(), (-SHIFT, SHIFT), strict=True):
        own = [row for row in made if row.measure == measure]
        marker = {"size": 10, "color": colour, "symbol": shape, "line": {"width": 2, "color": colour}}
        figure.add_scatter(x=[row.value for row in own], y=[names.index(row.of) + shift for row in own], name=name,
                           mode="markers", marker=marker, error_x={**error_bars(own), "color": colour},
                           customdata=[_named(row.of, stages) for row in own], hovertemplate="%{customdata}: %{x:.1%}")
        figure.add_vline(x=own[0].chance, line={"dash": "dot", "color": colour, "width": 1.5})
    figure.update_xaxes(title="decided as before (dotted: random)", tickformat=".0%", range=[-0.03, 1.03])
    figure.update_yaxes(autorange="reversed", tickvals=list(range(len(names))),
                        ticktext=[tick(_named(name, stages)) for name in names])
    return tidy(figure, 90 + 44 * len(names)).update_layout(hovermode="closest")


def _named(name: str, stages: Mapping[str, str]) -> str:
    """`LayerCAM (layer3)`."""
    return f"{MAPS[name]} ({stages[name]})" if name in stages else MAPS[name]


def _table(made: Sequence[MetricRow], stages: Mapping[str, str]) -> list[dict[str, str]]:
    told = {(row.of, row.measure): row for row in made}
    return [{"Map": _named(name, stages), "Kept on the marked part": unbroken(between(told[name, KEPT])),
             "More than random": unbroken(excess(told[name, KEPT])),
             "Left on the rest": unbroken(between(told[name, LEFT])),
             "Less than random": unbroken(excess(told[name, LEFT]))}
            for name in dict.fromkeys(row.of for row in made)]


def _beside(over: Sequence[MetricRow], stages: Mapping[str, str]) -> list[dict[str, str]]:
    """A line per other map, a column per measure."""
    heads = {KEPT: "More kept", LEFT: "Less left"}
    lines: dict[str, dict[str, str]] = {}
    measures = list(dict.fromkeys(row.measure for row in over))
    for row in over:
        line = lines.setdefault(row.of, {"Mask against": _named(row.of, stages), **{
            heads.get(measure, measure.capitalize()): "–" for measure in measures}})
        line[heads.get(row.measure, row.measure.capitalize())] = unbroken(gap(row.value, row.low, row.high, row.unit))
    return list(lines.values())


def _with_ends(area: Mapping[str, Any]) -> str:
    """`12.3 % (10.1 % to 14.9 %)`."""
    low, high = interval_ends(area)
    return percent(area["mean"]) + ("" if low is None else f" ({percent(low)} to {percent(high)})")


def _sentence(made: Sequence[MetricRow], over: Sequence[MetricRow], area: float) -> str:
    """What is seen, with what random maps give beside it, and who is better told only where it can be told."""
    value = {(row.of, row.measure): row.value for row in made}
    kept, left, by_chance, rest = (percent(value[name, measure]) for name in (MASK, RANDOM) for measure in (KEPT, LEFT))
    return (f"Shown only the {percent(area)} of a picture that the mask marks, the teacher decides as before on "
            f"**{kept}** of the pictures (random: {by_chance}); shown only the rest, on **{left}** (random: {rest}). "
            f"{' '.join(_against(over, name) for name in (CAM, SHAP))}")


def _against(over: Sequence[MetricRow], name: str) -> str:
    """`Against GradientSHAP the mask keeps about as much and leaves more.`"""
    told = {row.measure: row for row in over if row.of == name}
    return (f"Against the teacher's {MAPS[name]} the mask keeps {_more(told[KEPT], 'more', 'less')} and leaves "
            f"{_more(told[LEFT], 'less', 'more')}.")


def _more(row: MetricRow, good: str, bad: str) -> str:
    """Better or worse only where the interval leaves out 0."""
    if row.low is None or row.high is None or row.low <= 0 <= row.high:
        return "about as much"
    return good if row.low > 0 else bad
