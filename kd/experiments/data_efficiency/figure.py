"""Figure of learning curves as PNG: test accuracy against the share of the training images, without global state."""

import io
import textwrap
from typing import TYPE_CHECKING

from kd.experiments.data_efficiency.curves import Curve, LearningCurves
from kd.experiments.data_efficiency.report import note, sentence, share, teacher_words
from kd.inspection.figure import DPI, EDGE, FINE_PRINT, INK, SOFT
from kd.roles import COLOURS, CONTROL, TEACHER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, MARGIN, LINE = 8.0, 4.4, 0.5, 0.185  # inches
# After Okabe and Ito, then Tol: distinguishable with every common colour vision; the markers also in print.
SHADES = ("#D55E00", "#009E73", "#AA4499", "#56B4E9", "#E69F00", "#882255")
SIGNS = ("o", "s", "^", "v", "D", "P")
NEAR = 0.1  # the most frequent class has a line where the curves come so near to it
NARROW = 0.14  # between two models at one share


def style(study: LearningCurves, curve: Curve) -> tuple[str, int]:
    """Colour of a curve, and the index of its marker; the control is grey."""
    if curve.role == CONTROL:
        return COLOURS[CONTROL], 4
    number = study.students.index(curve) % len(SHADES)
    return SHADES[number], (number if number < 4 else number + 1) % len(SIGNS)


def places(study: LearningCurves, curve: Curve) -> list[float]:
    """Horizontal positions of a curve's points, side by side with others of their share; shares are at 0, 1, 2."""
    step = min(NARROW, 0.6 / len(study.curves))
    away = step * (study.curves.index(curve) - (len(study.curves) - 1) / 2)
    return [study.fractions.index(point.fraction) + away for point in curve.points]


def reach(study: LearningCurves) -> tuple[float, float]:
    """Ends of the accuracy axis, 0..1: all error bars, all seeds and the teacher, and a margin."""
    points = [point for curve in study.curves for point in curve.points]
    lows = [value for point in points for value in (point.interval.low, *point.accuracy.values) if value is not None]
    highs = [value for point in points for value in (point.interval.high, *point.accuracy.values) if value is not None]
    low, high = min([study.teacher_accuracy, *lows]), max([study.teacher_accuracy, *highs])
    low = min(low, study.majority) if low - study.majority < NEAR else low
    room = 0.06 * max(high - low, 0.05)
    return max(0.0, low - room), min(1.0, high) + room


def draw(study: LearningCurves) -> bytes:
    """The figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    texts = [textwrap.wrap(text, 122) for text in (sentence(study), f"{note(study)} {FINE_PRINT} Made with KD Lens.")]
    below = LINE * (sum(map(len, texts)) + 1) + 0.75
    height = MARGIN + HEIGHT + below
    figure = Figure(figsize=(WIDTH + 2 * MARGIN, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes(((MARGIN + 0.25) / (WIDTH + 2 * MARGIN), below / height,
                            (WIDTH - 0.25) / (WIDTH + 2 * MARGIN), (HEIGHT - 0.6) / height))
    _dress(axes, study)
    for curve in study.curves:
        _curve(axes, study, curve)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=9, borderaxespad=0.2,
                handlelength=2.2)
    title = ", ".join(filter(None, (f"{study.data}: students taught with less data", study.title)))
    figure.text(MARGIN / (WIDTH + 2 * MARGIN), 1 - 0.25 / height, title, fontsize=11.5, weight="bold", color=INK,
                va="top", parse_math=False)
    top = below - 0.75
    for lines, colour in zip(texts, (INK, SOFT), strict=True):
        figure.text(MARGIN / (WIDTH + 2 * MARGIN), top / height, "\n".join(lines), fontsize=9, color=colour, va="top",
                    linespacing=1.35, parse_math=False)
        top -= LINE * (len(lines) + 0.5)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _dress(axes: "Axes", study: LearningCurves) -> None:
    """Axes, the teacher's line, and that of the most frequent class where it is near."""
    low, high = reach(study)
    axes.set(ylim=(low, high), xlim=(-0.5, len(study.fractions) - 0.5))
    axes.set_xticks(range(len(study.fractions)), [tick(study, fraction, "\n") for fraction in study.fractions],
                    fontsize=9, color=INK)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.tick_params(axis="y", labelsize=9, labelcolor=INK, color=EDGE)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("test accuracy", fontsize=9, color=SOFT)
    axes.set_xlabel("share of the training images", fontsize=9, color=SOFT)
    axes.grid(axis="y", color="#eef1f4")
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(EDGE)
    axes.axhline(study.teacher_accuracy, color=COLOURS[TEACHER], linestyle="--", linewidth=1.6,
                 label=teacher_words(study))
    if study.majority >= low:
        axes.axhline(study.majority, color=SOFT, linestyle=":", linewidth=1.2, label="always the most frequent class")


def tick(study: LearningCurves, fraction: float, newline: str) -> str:
    """Tick label: `25 %` and the number of images."""
    images = study.images[fraction]
    return share(fraction) + ("" if images is None else f"{newline}{images:,} images")


def _curve(axes: "Axes", study: LearningCurves, curve: Curve) -> None:
    colour, sign = style(study, curve)
    at, means = places(study, curve), [point.accuracy.mean for point in curve.points]
    below, above = ([point.error_bars[end] for point in curve.points] for end in (0, 1))
    axes.errorbar(at, means, yerr=[below, above], color=colour, marker=SIGNS[sign], markersize=6.5, linewidth=1.8,
                  elinewidth=1.3, capsize=3, label=curve.name)
    for place, point in zip(at, curve.points, strict=True):
        if len(point.accuracy.values) > 1:
            axes.plot([place + NARROW / 3] * len(point.accuracy.values), point.accuracy.values, ".", color=colour,
                      markersize=5, alpha=0.6)
