"""Charts of a report as SVG, to stand inside of an HTML page: their text has the page's colour, light or dark."""

import io
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kd.evaluation.report import MetricRow, ModelReport
from kd.roles import COLOURS, CONTROL, STUDENT, TEACHER
from kd.store.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.6, 2.7  # inches
INK = "#010203"  # stands for the page's colour of text
GRID = "#8a8f94"
LINES = {TEACHER: "-", CONTROL: "--", STUDENT: "-"}
MARKERS = {TEACHER: "s", CONTROL: "^", STUDENT: "o"}
LEAST = 5  # images of a bin of confidence that is drawn
MOST_CLASSES = 24  # whose recall is drawn; a table has all
_drawing = threading.Lock()  # the font setting of an SVG is matplotlib's for all threads


def curves(runs: Mapping[str, Run], key: str, title: str) -> str:
    """A value of every epoch's log by epoch, a line for each run by role; the epoch whose weights were kept is marked.
    Empty where no run has logged it."""
    logged = {role: [(event["epoch"] + 1, event[key]) for event in run.epochs() if event.get(key) is not None]
              for role, run in runs.items()}
    if not any(logged.values()):
        return ""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes()
    for role, points in logged.items():
        if points:
            at, values = zip(*points, strict=True)
            axes.plot(at, values, LINES.get(role, "-"), color=COLOURS[role], label=role, linewidth=1.6)
            best = (runs[role].summary or {}).get("best_epoch")
            if best is not None and best + 1 in at:
                axes.plot(best + 1, values[at.index(best + 1)], MARKERS.get(role, "o"), color=COLOURS[role],
                          markersize=6)
    axes.set_xlabel("epoch", color=INK)
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if key.endswith("accuracy"):
        _shares(axes.yaxis)
    _legend(axes)
    return _svg(figure, f"curve-{key}")


def intervals(rows: Sequence[MetricRow], name: str) -> str:
    """Shares with their 95 % intervals, a line for each measure and a point for each role; chance as a tick."""
    measures = list(dict.fromkeys(row.measure for row in rows))
    roles = list(dict.fromkeys(row.role for row in rows))
    figure, axes = _axes(max(1.2, 0.35 + 0.17 * len(measures) * (len(roles) + 1)))
    for row in rows:
        if row.value is None:
            continue
        place = measures.index(row.measure) + 0.7 * ((roles.index(row.role) + 0.5) / len(roles) - 0.5)
        axes.errorbar(row.value, place, xerr=np.maximum(row.reach, 0)[:, None], fmt=MARKERS.get(row.role, "D"),
                      markersize=4, color=COLOURS[row.role], linewidth=1.4, label=row.role)
        if row.chance is not None and row.role == roles[0]:
            axes.plot([row.chance] * 2, [measures.index(row.measure) - 0.4, measures.index(row.measure) + 0.4], ":",
                      color=GRID, linewidth=1.4, label="baseline")
    axes.set_yticks(range(len(measures)), measures, parse_math=False)
    axes.set_ylim(len(measures) - 0.5, -0.5)
    _shares(axes.xaxis)
    _legend(axes, below=True)
    return _svg(figure, name)


def calibration(found: Mapping[str, ModelReport]) -> str:
    """Accuracy by confidence in bins of LEAST images and more, a line for each model; on the diagonal a confidence is
    what it says."""
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], ":", color=GRID, linewidth=1.4, label="confidence = accuracy")
    for role, one in found.items():
        full = one.reliability.counts >= LEAST
        axes.plot(one.reliability.confidence[full], one.reliability.accuracy[full], LINES.get(role, "-"),
                  marker=MARKERS.get(role, "D"), markersize=4, color=COLOURS[role], label=role, linewidth=1.2)
    axes.set_xlabel("confidence", color=INK)
    axes.set_title("accuracy by confidence", color=INK, fontsize=10, loc="left")
    _shares(axes.xaxis)
    _shares(axes.yaxis)
    _legend(axes)
    return _svg(figure, "reliability")


def _axes(height: float = HEIGHT) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.grid(color=GRID, alpha=0.25, linewidth=0.6)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)
    return figure, axes


def _shares(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))


def _legend(axes: "Axes", below: bool = False) -> None:
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    where = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)} if below else {"loc": "best"}
    axes.legend(once.values(), once.keys(), fontsize=8, frameon=False, labelcolor=INK, ncols=4 if below else 1, **where)


def _svg(figure: "Figure", name: str) -> str:
    """The figure as an element of a page. name: before all its ids, so that those of several charts differ."""
    import matplotlib

    buffer = io.StringIO()
    with _drawing, matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg"):], flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    text = re.sub(r"font: (\S+) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"([^>]*?)width="[^"]*"', r'<svg aria-hidden="true" \1\2', text, count=1)
    return text.replace(INK, "currentColor").strip()
