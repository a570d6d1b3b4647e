"""Test accuracy against the share of the training images, with intervals, seeds and the teacher's line."""

import plotly.graph_objects as go

from kd.experiments.data_efficiency.curves import Curve, LearningCurves, Point
from kd.experiments.data_efficiency.figure import places, reach, style, tick
from kd.experiments.data_efficiency.report import share, teacher_words
from kd.experiments.differences import between, signed
from kd.roles import COLOURS, TEACHER
from pages.parts.shared.format import percent
from pages.parts.shared.theme import NEUTRAL, tidy

SYMBOLS = ("circle", "square", "triangle-up", "triangle-down", "diamond", "cross")
BESIDE = 0.065  # the seeds' dots from their bar


def study_chart(study: LearningCurves) -> go.Figure:
    """A line per model; one model's points keep clear of the others' at the same share."""
    low, high = reach(study)
    ends = [-0.5, len(study.fractions) - 0.5]
    figure = go.Figure(go.Scatter(
        x=ends, y=[study.teacher_accuracy] * 2, mode="lines", name=teacher_words(study), hoverinfo="skip",
        line={"color": COLOURS[TEACHER], "dash": "dash", "width": 2}))
    if study.majority >= low:
        figure.add_scatter(x=ends, y=[study.majority] * 2, mode="lines", name="always the most frequent class",
                           hoverinfo="skip", line={"color": NEUTRAL, "dash": "dot", "width": 1})
    for curve in study.curves:
        _add(figure, study, curve)
    figure.update_xaxes(title="share of the training images", tickvals=list(range(len(study.fractions))),
                        ticktext=[tick(study, one, "<br>") for one in study.fractions], range=ends, showgrid=False)
    figure.update_yaxes(title="test accuracy", tickformat=".0%", range=[low, high])
    return tidy(figure, 420).update_layout(hovermode="closest")


def _add(figure: go.Figure, study: LearningCurves, curve: Curve) -> None:
    colour, sign = style(study, curve)
    at, means = places(study, curve), [point.accuracy.mean for point in curve.points]
    figure.add_scatter(
        x=at, y=means, name=curve.name, legendgroup=curve.name, mode="lines+markers",
        line={"color": colour, "width": 2}, marker={"color": colour, "symbol": SYMBOLS[sign], "size": 8},
        error_y={"type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": colour,
                 "array": [point.error_bars[1] for point in curve.points],
                 "arrayminus": [point.error_bars[0] for point in curve.points]},
        hovertext=[_hovered(curve, point) for point in curve.points], hovertemplate="%{hovertext}<extra></extra>")
    seeds = [(place + BESIDE, value, seed) for place, point in zip(at, curve.points, strict=True)
             for value, seed in zip(point.accuracy.values, point.seeds, strict=True) if len(point.seeds) > 1]
    figure.add_scatter(x=[place for place, *_ in seeds], y=[value for _, value, _ in seeds], mode="markers",
                       legendgroup=curve.name, showlegend=False, opacity=0.65, marker={"color": colour, "size": 4},
                       hovertext=[f"{curve.name}, seed {seed}: {percent(value)}" for _, value, seed in seeds],
                       hovertemplate="%{hovertext}<extra></extra>")


def _hovered(curve: Curve, point: Point) -> str:
    """A point in a few lines."""
    images = "" if point.images is None else f", {point.images:,} images"
    gain = (
        f"<br>− control {signed(point.vs_control.value)} points ({between(point.vs_control)})"
        if point.vs_control
        else ""
    )
    ends = point.interval
    level = "" if ends.low is None else f" ({percent(ends.low)} to {percent(ends.high)})"
    return (f"{curve.name}<br>{share(point.fraction)}{images}, {point.passes} epochs<br>test accuracy "
            f"{percent(point.accuracy.mean)}{level}{gain}<br>seeds {len(point.seeds)}")
