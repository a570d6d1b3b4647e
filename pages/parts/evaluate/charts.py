"""Charts of predictions: calibration, recall, confusions."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from kd.evaluation.report import MetricRow, ModelReport, SharedErrors
from kd.roles import COLOURS, EIGHT_BIT
from pages.parts.shared.format import untagged
from pages.parts.shared.theme import NEUTRAL, tidy

STRONG = 0.55  # of a hue: from here on white writing reads better
LEAST, MOST = 5, 18  # sizes of points
ALIKE = "#CC79A7"  # neither the teacher's nor the student's: it is both


def short(name: str, most: int = 16) -> str:
    """A class name that fits an axis."""
    return untagged(name if len(name) <= most else name[:most - 1] + "…")


def error_bars(rows: Sequence[MetricRow]) -> dict[str, object]:
    """The intervals as plotly's error bars."""
    return {"type": "data", "array": [row.reach[1] for row in rows], "arrayminus": [row.reach[0] for row in rows],
            "thickness": 1, "width": 3, "color": NEUTRAL}


def reliability_chart(found: Mapping[str, ModelReport]) -> go.Figure:
    """A point per bin of confidence; the dotted diagonal is perfect calibration."""
    figure = go.Figure(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", name="calibrated", hoverinfo="skip",
                                  line={"dash": "dot", "color": NEUTRAL, "width": 1.5}))
    for role, one in found.items():
        bins = [item for item in one.reliability.to_json() if item["count"]]
        counts = [item["count"] for item in bins]
        figure.add_scatter(
            x=[item["confidence"] for item in bins], y=[item["accuracy"] for item in bins], customdata=counts,
            mode="lines+markers", name=role, line={"color": COLOURS[role], "width": 2},
            marker={"size": np.interp(np.sqrt(counts), [0, np.sqrt(max(counts, default=1))], [LEAST, MOST])},
            hovertemplate="accuracy %{y:.0%} over %{customdata} at confidence %{x:.0%}")
    figure.update_xaxes(title="confidence", tickformat=".0%", range=[0, 1.04])
    figure.update_yaxes(title="accuracy", tickformat=".0%", range=[-0.04, 1.06])
    return tidy(figure, 340).update_layout(hovermode="closest")


def recall_chart(found: Mapping[str, ModelReport]) -> go.Figure:
    """A group of bars per class."""
    figure = go.Figure()
    for role, one in found.items():
        figure.add_bar(x=[untagged(row.measure) for row in one.recall], y=[row.value for row in one.recall], name=role,
                       marker_color=COLOURS[role], error_y=error_bars(one.recall), hovertemplate="%{y:.1%}")
    chance = next(iter(found.values())).recall[0].chance
    figure.add_hline(y=chance, line={"dash": "dot", "color": NEUTRAL, "width": 1.5})
    names = next(iter(found.values())).classes
    figure.update_xaxes(tickvals=list(map(untagged, names)), ticktext=[short(name) for name in names])
    figure.update_yaxes(title="recall", tickformat=".0%", range=[0, 1.06])
    return tidy(figure, 340).update_layout(barmode="group", bargap=0.25)


def confusion_chart(one: ModelReport) -> go.Figure:
    """Counts in the cells, coloured by share of the true class, in the model's own hue."""
    hover = [[f"true class {untagged(truth)}, predicted {untagged(answer)}: {one.table[row, column]} "
              f"({one.shares[row, column]:.0%})" for column, answer in enumerate(one.classes)]
             for row, truth in enumerate(one.classes)]
    return _matrix(one.table, one.shares, _fading(COLOURS[one.role]), one.classes,
                   one.role.capitalize() + ("" if one.role == EIGHT_BIT else f" · {one.run.label}"), hover)


def alike_chart(shared: SharedErrors) -> go.Figure:
    """Counts of the same wrong prediction."""
    hover = [[f"true class {untagged(truth)}, both predicted {untagged(answer)}: {shared.counts[row, column]} "
              f"(expected {shared.expected[row, column]:.1f})" for column, answer in enumerate(shared.classes)]
             for row, truth in enumerate(shared.classes)]
    return _matrix(shared.counts, shared.relative, _fading(ALIKE), shared.classes, "Teacher and student",
                   hover)


def _matrix(text: np.ndarray, colour: np.ndarray, scale: list, classes: tuple[str, ...], title: str,
            hover: list[list[str]]) -> go.Figure:
    names = [short(name, 12) for name in classes]
    places = list(range(len(classes)))
    figure = go.Figure(go.Heatmap(z=colour, x=places, y=places, colorscale=scale, zmin=0, zmax=1, showscale=False,
                                  xgap=2, ygap=2, hovertext=hover, hovertemplate="%{hovertext}<extra></extra>"))
    # The theme's own writing on pale cells; plotly would choose by a colour that it takes for opaque. All at once:
    # plotly checks the earlier ones again with every one that is added.
    figure.update_layout(annotations=[
        {"x": column, "y": row, "text": str(text[row, column]), "showarrow": False,
         "font": {"color": "white"} if colour[row, column] > STRONG else {}}
        for row, column in np.ndindex(*text.shape)])
    ticks = {"tickvals": places, "ticktext": names, "showgrid": False}
    figure.update_xaxes(title="predicted class", tickangle=-35, **ticks)
    figure.update_yaxes(title="true class", autorange="reversed", **ticks)
    height = 170 + 34 * len(classes)
    return tidy(figure, height).update_layout(hovermode="closest", title={"text": title, "font": {"size": 14}})


def _fading(hue: str) -> list[list]:
    """From transparent, so that an empty cell has the page's own ground, light or dark."""
    red, green, blue = (int(hue[start:start + 2], 16) for start in (1, 3, 5))
    return [[0, f"rgba({red},{green},{blue},0)"], [1, f"rgba({red},{green},{blue},1)"]]
