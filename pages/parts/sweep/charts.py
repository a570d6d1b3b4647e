"""Charts of a sweep: scores over two settings, and accuracy against cost with its front."""

from collections.abc import Sequence

import plotly.graph_objects as go

from kd.experiments.sweep import Value
from kd.experiments.sweep.heatmaps import ACCURACY, GAIN, Grid, score, spread
from kd.experiments.sweep.results import FLOPS, Point, Row
from kd.roles import COLOURS, CONTROL, STUDENT, TEACHER
from pages.parts.evaluate.charts import NEUTRAL
from pages.parts.shared.format import count, percent
from pages.parts.shared.theme import STATUS_WORDS, tidy

# Ordered in lightness, and brown against teal: both survive colour blindness, the first a grey printer as well.
SEQUENTIAL, DIVERGING = "Viridis", "BrBG"
PALE, DARK = "#ffffff", "#111111"
SYMBOLS = {TEACHER: "square", CONTROL: "diamond", STUDENT: "circle"}
GREEK = {"alpha": "α", "temperature": "T"}
AXES = {FLOPS: "FLOPs of one image", "milliseconds": "milliseconds to explain one image"}


def heat_chart(grid: Grid, measure: str, ends: tuple[float, float], chosen: Row | None) -> go.Figure:
    """The values written in their cells; a frame around the chosen one; what is not there yet has a sign instead."""
    scale, form = (DIVERGING, "+.1f") if measure == GAIN else (SEQUENTIAL, ".0%")
    across, down = list(range(len(grid.acrosses))), list(range(len(grid.downs)))
    hover = [[hovered(row) if row else "" for row in line] for line in grid.rows]
    figure = go.Figure(go.Heatmap(
        z=grid.values, x=across, y=down, zmin=ends[0], zmax=ends[1], colorscale=scale, xgap=2, ygap=2, hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>", hoverongaps=False,
        colorbar={"thickness": 10, "tickformat": form, "outlinewidth": 0, "nticks": 5}))
    places = [(x, y, row) for y, line in enumerate(grid.rows) for x, row in enumerate(line)]
    # All at once: plotly checks the earlier ones again with every one that is added.
    figure.update_layout(annotations=[
        {"x": x, "y": y, "showarrow": False, **_written(row, grid.values[y][x], measure, ends)}
        for x, y, row in places])
    for x, y, row in places:
        if row and chosen and row.cell == chosen.cell:
            figure.add_shape(type="rect", x0=x - .49, x1=x + .49, y0=y - .48, y1=y + .48,
                             line={"color": COLOURS["student"], "width": 4})
    figure.update_xaxes(title=named(grid.across), tickvals=across, ticktext=list(map(text, grid.acrosses)),
                        showgrid=False, range=[-0.5, len(across) - 0.5])
    figure.update_yaxes(title=named(grid.down), tickvals=down, ticktext=list(map(text, grid.downs)), showgrid=False,
                        range=[len(down) - 0.5, -0.5])
    title = {"text": grid.title or measure, "font": {"size": 14}}
    return tidy(figure, 130 + 52 * len(down)).update_layout(hovermode="closest", title=title)


def _written(row: Row | None, value: float | None, measure: str, ends: tuple[float, float]) -> dict[str, object]:
    """A number in a colour that can be read on its cell, or the sign of what the cell is waiting for."""
    if value is None:
        return {"text": STATUS_WORDS.get(row.status, "·").partition(" ")[0] if row else ""}
    place = (value - ends[0]) / (ends[1] - ends[0])
    pale = abs(place - 0.5) > 0.35 if measure == GAIN else place < 0.45
    words = f"{value:+.1f}".replace("-", "−") if measure == GAIN else f"{100 * value:.1f}"
    return {"text": words, "font": {"color": PALE if pale else DARK, "size": 14}}


def list_chart(cells: Sequence[tuple[str, Row]], measure: str, chosen: Row | None) -> go.Figure:
    """One line per cell: its score with its interval (a gain) or its spread over the seeds; the control's as a line."""
    known = [(title, row, value) for title, row in reversed(cells) if (value := score(row, measure)) is not None]
    low, high = ([spread(row, measure)[end] for _, row, _ in known] for end in (0, 1))
    figure = go.Figure(go.Scatter(
        x=[value for *_, value in known], y=[title for title, *_ in known], mode="markers", name=STUDENT,
        marker={"color": COLOURS[STUDENT], "size": 10},
        error_x={"type": "data", "symmetric": False, "arrayminus": low, "array": high, "thickness": 1.5, "width": 4,
                 "color": COLOURS[STUDENT]},
        hovertext=[hovered(row) for _, row, _ in known], hovertemplate="%{hovertext}<extra></extra>"))
    best = [(title, value) for title, row, value in known if chosen and row.cell == chosen.cell]
    figure.add_scatter(x=[value for _, value in best], y=[title for title, _ in best], mode="markers", hoverinfo="skip",
                       marker={"symbol": "circle-open", "size": 20, "color": COLOURS[STUDENT], "line": {"width": 2}})
    for place, words in control_line(known[0][1] if known else None, measure):
        figure.add_vline(x=place, line={"color": COLOURS[CONTROL], "dash": "dot"}, annotation_text=words)
    figure.update_xaxes(title=measure + (", points" if measure == GAIN else ""),
                        tickformat="+.0f" if measure == GAIN else ".0%")
    return tidy(figure, 120 + 34 * len(known)).update_layout(hovermode="closest", showlegend=False)


def control_line(row: Row | None, measure: str) -> list[tuple[float, str]]:
    """Position of the control on a score's axis, and its label."""
    if measure == GAIN:
        return [(0.0, "control")]
    control = row.arm("control") if row else None
    if control is None:
        return []
    return [((control.accuracy if measure == ACCURACY else control.val_macro_f1).mean, "control")]


def front_chart(points: Sequence[Point], front: Sequence[Point], cost: str, chosen: Row | None) -> go.Figure:
    """Test accuracy against a cost, a point per model with its spread over the seeds; the front is a line."""
    figure = go.Figure()
    figure.add_scatter(x=[point.cost(cost) for point in front], y=[point.accuracy.mean for point in front],
                       name="front", mode="lines", line={"color": NEUTRAL, "dash": "dot", "width": 2}, hoverinfo="skip")
    for role in (TEACHER, STUDENT, CONTROL):  # the few controls on top of the many students
        own = [point for point in points if point.role == role and point.cost(cost) is not None]
        if own:
            figure.add_scatter(
                x=[point.cost(cost) for point in own], y=[point.accuracy.mean for point in own], name=role,
                mode="markers", marker={"color": COLOURS[role], "symbol": SYMBOLS[role], "size": 10,
                                        "line": {"width": 1, "color": PALE}},
                error_y={"type": "data", "array": [point.accuracy.sd or 0 for point in own], "thickness": 1, "width": 3,
                         "color": COLOURS[role]},
                hovertext=[_point(point) for point in own], hovertemplate="%{hovertext}<extra></extra>")
    best = [point for point in points if point.role == "student" and chosen and point.row.cell == chosen.cell]
    figure.add_scatter(x=[point.cost(cost) for point in best], y=[point.accuracy.mean for point in best],
                       name="highest on validation", mode="markers", hoverinfo="skip",
                       marker={"symbol": "circle-open", "size": 18, "color": COLOURS["student"], "line": {"width": 2}})
    figure.update_xaxes(title=AXES[cost], type="log", tickformat="~s" if cost == FLOPS else "~g", dtick="D2")
    figure.update_yaxes(title="test accuracy", tickformat=".0%")
    return tidy(figure, 360).update_layout(hovermode="closest")


def hovered(row: Row) -> str:
    """A cell in a few lines."""
    student = row.arm("student")
    if student is None or row.outcome is None:
        return f"{row.cell.title}<br>{row.status}"
    gain = f"{row.outcome.vs_control.value:+.1f}".replace("-", "−")
    return (f"{row.cell.title}<br>test accuracy {percent(student.accuracy.mean)}<br>validation macro-F1 "
            f"{percent(student.val_macro_f1.mean)}<br>student − control {gain} points<br>seeds {row.seeds}")


def _point(point: Point) -> str:
    arm = point.row.arm(point.role)
    label = arm.run.spec.model_label if arm else ""
    which = f"<br>{point.row.cell.title}" if point.role == "student" else ""
    spread = f" ± {100 * point.accuracy.sd:.1f}" if point.accuracy.sd is not None else ""
    slow = "" if point.milliseconds is None else f"<br>explanation in {point.milliseconds:.2f} ms"
    return (f"{point.role} {label}{which}<br>test accuracy {percent(point.accuracy.mean)}{spread}<br>"
            f"{count(point.flops)} FLOPs{slow}")


def named(setting: str) -> str:
    """A setting's name on an axis."""
    return GREEK.get(setting, setting.replace("_", " "))


def text(value: Value) -> str:
    """A value's text on an axis."""
    return value if isinstance(value, str) else f"{value:g}"
