"""Post-hoc agreement: the teacher's predictions inside and outside the region of each map, the mask beside others."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from kd.evaluation.explanation_rows import MAPS, NAMES, interval_ends
from kd.evaluation.report import SHARE, MetricRow
from kd.evaluation.row_words import between, excess, gap
from kd.metrics.mask_statistics import leak
from pages.parts.evaluate.charts import error_bars
from pages.parts.evaluate.explanation_charts import SHIFT
from pages.parts.evaluate.tables import INTERVALS
from pages.parts.shared.format import percent, tick, unbroken
from pages.parts.shared.theme import CHART, tidy

KEPT, LEFT = (NAMES[score][0] for score in ("kept", "left"))
# After Okabe and Ito, and none of the models' hues: the best map has the one far right and the other far left.
SHAPES = {KEPT: ("inside the mask", "#009E73", "circle"), LEFT: ("outside", "#CC79A7", "diamond-open")}
MASK, CAM, SHAP, RANDOM = "mask", "grad-cam", "gradient-shap", "random"  # of MAPS


def posthoc(result: Mapping[str, Any], made: Sequence[MetricRow], over: Sequence[MetricRow]) -> None:
    """A sentence, a chart and a table; then by how much the mask is better than each other map. made: two rows per map;
    over: the mask beside each other map."""
    st.markdown(_sentence(made, over, result["area"]["mean"]))
    st.plotly_chart(posthoc_chart(made, result["stage"]), config=CHART, key="evaluate_posthoc",
                    alt="Share of the images with the same prediction of the teacher inside and outside the mask, "
                        "by map")
    st.table(_table(made, result["stage"]), border="horizontal", hide_index=True,
             alt="Same prediction inside the mask and outside, by map")
    if "student" in result:
        st.markdown(_student_sentence(result["student"]))
        if warning := leak(result["student"]["scores"]["fill"]["mean"], result["student"]["majority"]):
            st.warning(warning, icon=":material/warning:")
    area, soft = result["area"], "mask-soft" in result["maps"]
    blank = ", ".join(f"{count} of {MAPS[name]}" for name, count in result["blank"].items() if count)
    st.caption(f"{result['images']:,} images, with hidden pixels filled as for the student. Every map is cut to the "
               f"area of the mask: on average {_with_ends(area)}. "
               + ("Only the mask as the student's input is soft, so the others are no exact match for it. " * soft)
               + "The teacher's maps are of its own predicted class. In brackets "
               f"{INTERVALS}. Differences from random are paired by image; positive is better in both."
               + (f" Blank maps, replaced by random ones: {blank}." if blank else ""))
    st.markdown("**The mask against the other maps**")
    st.table(_beside(over, result["stage"]), border="horizontal", hide_index=True,
             alt="By how much the mask is better than each other map")
    st.caption("Differences paired by image: predictions inside, predictions outside, localisation of the evidence. "
               "Positive: the mask, cut to its area, is better; an interval that excludes 0 is significant."
               + ("" if result["evidence"] else " No test image comes with evidence."))


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
    figure.update_xaxes(title="same prediction as for the whole image (dotted: random)",
                        tickformat=".0%", range=[-0.03, 1.03])
    figure.update_yaxes(autorange="reversed", tickvals=list(range(len(names))),
                        ticktext=[tick(_named(name, stages)) for name in names])
    return tidy(figure, 90 + 44 * len(names)).update_layout(hovermode="closest")


def _named(name: str, stages: Mapping[str, str]) -> str:
    """`LayerCAM (layer3)`."""
    return f"{MAPS[name]} ({stages[name]})" if name in stages else MAPS[name]


def _table(made: Sequence[MetricRow], stages: Mapping[str, str]) -> list[dict[str, str]]:
    told = {(row.of, row.measure): row for row in made}
    return [{"Map": _named(name, stages), "Same prediction inside": unbroken(between(told[name, KEPT])),
             "Inside − random": unbroken(excess(told[name, KEPT])),
             "Same prediction outside": unbroken(between(told[name, LEFT])),
             "Random − outside": unbroken(excess(told[name, LEFT]))}
            for name in dict.fromkeys(row.of for row in made)]


def _beside(over: Sequence[MetricRow], stages: Mapping[str, str]) -> list[dict[str, str]]:
    """A line per other map, a column per measure."""
    heads = {KEPT: "Inside", LEFT: "Outside"}
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
    """The result in words, beside random maps; a difference is stated only where its interval excludes 0."""
    value = {(row.of, row.measure): row.value for row in made}
    kept, left, by_chance, rest = (percent(value[name, measure]) for name in (MASK, RANDOM) for measure in (KEPT, LEFT))
    return (f"Given only the {percent(area)} of an image inside the mask, the teacher makes the same prediction on "
            f"**{kept}** of the images (random: {by_chance}); given only the rest, on **{left}** (random: {rest}). "
            f"{' '.join(_against(over, name) for name in (CAM, SHAP))}")


def _student_sentence(student: Mapping[str, Any]) -> str:
    """Accuracy of the student under its mask, beside the control, and by the fill alone."""
    scores, over = student["scores"], student["over_control"].get(MASK)
    gained = f" ({gap(over['mean'], *interval_ends(over), SHARE)} against the control, which sees the whole image)" \
        if over else ""
    soft = f", {percent(scores['mask-soft']['mean'])} under its soft mask" if "mask-soft" in scores else ""
    outlines = " **Its mask was trained with the outlines of the training images.**" * (student["target"] == "outlines")
    return (f"The student is right on **{percent(scores[MASK]['mean'])}** of the images under its mask{gained}{soft}, "
            f"and on {percent(scores['fill']['mean'])} with everything hidden (most frequent class: "
            f"{percent(student['majority'])}).{outlines}")


def _against(over: Sequence[MetricRow], name: str) -> str:
    """`Against the teacher's GradientSHAP the mask preserves about as many predictions inside and more outside.`"""
    by_measure = {row.measure: row for row in over if row.of == name}
    return (f"Against the teacher's {MAPS[name]} the mask preserves {_more(by_measure[KEPT], 'more', 'fewer')} "
            f"predictions inside and {_more(by_measure[LEFT], 'fewer', 'more')} outside.")


def _more(row: MetricRow, good: str, bad: str) -> str:
    """Better or worse only where the interval excludes 0."""
    if row.low is None or row.high is None or row.low <= 0 <= row.high:
        return "about as many"
    return good if row.low > 0 else bad
