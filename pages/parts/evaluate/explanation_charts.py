"""Charts of explanation quality: agreement above the baseline, its spread, faithfulness curves, the sanity check."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from kd.evaluation.report import MetricRow
from kd.roles import COLOURS
from pages.parts.shared.theme import NEUTRAL, tidy

SHIFT = 0.14  # of a line: two models' points must not hide each other
DASHES = {"map": "solid", "random": "dot"}
Names = Mapping[str, str]


def excess_chart(made: Sequence[MetricRow], names: Names) -> go.Figure:
    """A point with its interval per measure and model; 0 is the baseline. names: of the models, for the legend."""
    figure = go.Figure()
    measures = list(dict.fromkeys(row.measure for row in made))
    roles = list(dict.fromkeys(row.role for row in made))
    for role, shift in zip(roles, np.linspace(-SHIFT, SHIFT, len(roles)), strict=True):
        own = [row for row in made if row.role == role]
        reach = {"array": [row.excess_reach[1] for row in own], "arrayminus": [row.excess_reach[0] for row in own]}
        figure.add_scatter(x=[row.excess for row in own], y=[measures.index(row.measure) + shift for row in own],
                           name=names[role], mode="markers", customdata=[row.measure.removesuffix(" ↓") for row in own],
                           marker={"size": 9, "color": COLOURS[role]},
                           error_x={"type": "data", **reach, "thickness": 1.5, "width": 3, "color": COLOURS[role]},
                           hovertemplate="%{customdata}: %{x:+.3f}")
    figure.add_vline(x=0, line={"dash": "dot", "color": NEUTRAL, "width": 1.5})
    figure.update_xaxes(title="above baseline")
    figure.update_yaxes(autorange="reversed", tickvals=list(range(len(measures))),
                        ticktext=[name.removesuffix(" ↓") for name in measures])
    return tidy(figure, 360).update_layout(hovermode="closest")


def spread_chart(found: Mapping[str, tuple[list[float], list[float]]],
                 chances: Mapping[str, float | None], names: Names) -> go.Figure:
    """Shares of the images by rank correlation, and the baseline."""
    figure = go.Figure()
    for role, (middles, shares) in found.items():
        figure.add_scatter(x=middles, y=shares, name=names[role], mode="lines",
                           line={"color": COLOURS[role], "shape": "hvh"}, fill="tozeroy", opacity=0.7,
                           hovertemplate="%{y:.0%}")
        if (chance := chances.get(role)) is not None:
            figure.add_vline(x=chance, line={"dash": "dot", "color": COLOURS[role], "width": 2})
    figure.update_xaxes(title="Spearman correlation (dotted: baseline)")
    figure.update_yaxes(title="images", tickformat=".0%", rangemode="tozero")
    return tidy(figure, 360)


def curve_chart(result: Mapping[str, Any], kind: str, names: Names) -> go.Figure:
    """Mean curves: each model's map solid, a random map dotted."""
    figure = go.Figure()
    for role, own in result.items():
        for name, dash in DASHES.items():
            curve = own["curves"][kind][name]
            if curve:
                figure.add_scatter(x=own["curves"]["share"], y=curve, mode="lines", legendgroup=role,
                                   name=names[role] if name == "map" else f"{role}, random map",
                                   showlegend=name == "map",
                                   line={"color": COLOURS.get(role, NEUTRAL), "dash": dash, "width": 2},
                                   hovertemplate="%{y:.1%}")
    figure.update_xaxes(title="pixels inserted" if kind == "insertion" else "pixels deleted", tickformat=".0%")
    figure.update_yaxes(title="probability", tickformat=".0%", rangemode="tozero")
    return tidy(figure, 340)


def sanity_chart(result: Mapping[str, Any], names: Names) -> go.Figure:
    """Similarity to the trained model's maps by layers randomised; that of maps of other images is dotted."""
    figure = go.Figure()
    for role, own in result.items():
        if "sanity" not in own:  # of an 8-bit student
            continue
        rows, colour = own["sanity"]["rows"], COLOURS.get(role, NEUTRAL)
        steps = list(range(1, len(rows) + 1))
        figure.add_scatter(x=steps, y=[row["spearman"]["mean"] for row in rows], name=names[role],
                           mode="lines+markers",
                           line={"color": colour, "width": 2}, customdata=[row["down_to"] for row in rows],
                           hovertemplate="%{y:.2f} (randomised down to %{customdata})")
        figure.add_scatter(x=steps, y=[own["sanity"]["chance"]] * len(steps), mode="lines", showlegend=False,
                           line={"color": colour, "dash": "dot", "width": 1.5}, hoverinfo="skip")
    figure.update_xaxes(title="layers randomised, head first", dtick=1)
    figure.update_yaxes(title="Spearman with the trained model's maps")
    return tidy(figure, 380)
