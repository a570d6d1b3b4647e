"""Results of a sweep over shares of the data, in words and tables."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from kd.experiments.data_efficiency.curves import Curve, LearningCurves, Point
from kd.experiments.differences import NOT_SIGNIFICANT, VERDICTS, PairedDifference, between, signed
from kd.experiments.sweep import Sweep
from kd.experiments.sweep.results import NOTICE, Row, audit_verdict, shared, versions
from kd.latex import as_latex
from kd.store.runs import Store

# What a bar, or a pair of numbers in brackets, is.
INTERVAL = "95 % bootstrap intervals of the mean over the seeds, of these models on other test images"


def sentence(study: LearningCurves, strong: Callable[[str], str] = str) -> str:
    """Summary in one sentence. strong: markup for a few words."""
    opening, students, rest = summary_parts(study, strong)
    return " ".join([opening, "; ".join(students) + ".", *rest])


def summary_parts(study: LearningCurves, strong: Callable[[str], str] = str) -> tuple[str, list[str], list[str]]:
    """The sentence in its parts: on what, where each student is above the control by more than chance, and from which
    share on less data cost nothing that could be seen."""
    drawn = f"{study.tested:,} test images" + (f" of {study.people:,} patients" if study.people else "")
    average = f", on average over {study.seeds} seeds" if study.seeds > 1 else ", with one seed"
    students = [_helps(curve, strong) for curve in study.students if any(point.vs_control for point in curve.points)]
    return (f"On {drawn}{average}:" if study.whole else f"So far: on {drawn}{average}:",
            students or ["no student has finished beside its control yet"], _enough(study, strong))


def _helps(curve: Curve, strong: Callable[[str], str]) -> str:
    """`kd is better than the control with 10 % (+6.7 points, +2.1 to +11.0), not significantly different from it with
    100 %`."""
    parts: list[str] = []
    for verdict in VERDICTS:
        own = [point for point in curve.points if point.vs_control and point.vs_control.verdict == verdict]
        shares = [
            share(point.fraction)
            + (f" ({_with_interval(point.vs_control)})" if point.vs_control and verdict != NOT_SIGNIFICANT else "")
            for point in own
        ]
        than = f"{'from' if verdict == NOT_SIGNIFICANT else 'than'} {'it' if parts else 'the control'}"
        if len(own) == len(curve.points) > 1 and verdict == NOT_SIGNIFICANT:
            return f"{curve.name} is {strong(f'{verdict} {than}')} with every share of the images"
        if own:
            parts.append(f"{strong(f'{verdict} {than}')} with {_listed(shares)}")
    return f"{curve.name} is {', '.join(parts)} of the images"


def _enough(study: LearningCurves, strong: Callable[[str], str]) -> list[str]:
    """From which share on less data cost nothing that could be seen, once the control with all of it has finished."""
    control, (least, most) = study.curves[0], (share(end) for end in (min(study.fractions), max(study.fractions)))
    gaps = [point.vs_full_control for curve in study.curves for point in curve.points]
    if any(gap and not gap.has_interval for gap in gaps):
        return [f"Too few {'patients' if study.people else 'images'} for intervals: a gain may be random."]
    if control.enough is None:
        return []
    if control.enough.fraction == min(study.fractions):
        return [f"The control itself is not significantly worse with {least} than with {most}: these test images are "
                "too few, or the task too easy or too hard, to show that distillation saves data."]
    enough = [f"{curve.name} {strong(f'from {share(point.fraction)} on')}" if point else f"{curve.name} never"
            for curve in study.students for point in (curve.enough,) if curve.points]
    return [f"Not significantly worse than the control with {most}: {', '.join(enough)}, the control itself from "
            f"{share(control.enough.fraction)} on."]


def _with_interval(one: PairedDifference) -> str:
    """`+6.7 points, +2.1 to +11.0, in 3 of 3 seeds`: how many point the same way is what the interval leaves out."""
    alike = sum(value * one.value > 0 for value in one.by_seed.values)
    seeds = f", in {alike} of {one.by_seed.n} seeds" if one.by_seed.n > 1 else ""
    return f"{signed(one.value)} points, {between(one)}{seeds}"


def _listed(items: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def share(fraction: float) -> str:
    """`25 %`."""
    return f"{100 * fraction:g} %"


def note(study: LearningCurves) -> str:
    """How to read the bars."""
    return f"Bars: {interval_note(study)}; dots: single seeds, whose spread is seed variance."


def interval_note(study: LearningCurves) -> str:
    """What the intervals are."""
    return INTERVAL + (", resampled by patient" if study.people else "")


def teacher_words(study: LearningCurves) -> str:
    """`teacher resnet18, all images: 97.5 %`, since a teacher may have seen more than its students."""
    seen = "all images" if study.teacher_fraction == 1 else f"{share(study.teacher_fraction)} of the images"
    return f"teacher {study.teacher}, {seen}: {100 * study.teacher_accuracy:.1f} %"


def rows(study: LearningCurves) -> list[dict[str, str]]:
    """A row per model and share, the scores in per cent."""
    most = share(max(study.fractions))
    return [{"model": curve.name, "share": share(point.fraction),
             "images": "" if point.images is None else str(point.images), "passes": str(point.passes),
             "seeds": str(len(point.seeds)), "test accuracy": _level(point),
             "− control": _gap(point.vs_control), f"− control with {most}": _gap(point.vs_full_control)}
            for curve in study.curves for point in curve.points]


def _gap(one: PairedDifference | None) -> str:
    return f"{signed(one.value)} ({between(one)})" if one else ""


def _level(point: Point) -> str:
    low, high = point.interval.low, point.interval.high
    ends = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * point.accuracy.mean:.1f}{ends}"


def lines(study: LearningCurves) -> list[dict[str, Any]]:
    """A line per model and share: flat, plain values; None where there is nothing yet."""
    return [
        {
            "study": study.title,
            "model": curve.name,
            "role": curve.role,
            "data_fraction": point.fraction,
            "training_images": point.images,
            "passes": point.passes,
            "seeds": len(point.seeds),
            "test_accuracy": point.accuracy.mean,
            "low": point.interval.low,
            "high": point.interval.high,
            "sd": point.accuracy.sd,
            "by_seed": " ".join(f"{value:.4f}" for value in point.accuracy.values),
            **_difference("minus_control", point.vs_control),
            **_difference("minus_control_with_most", point.vs_full_control),
        }
        for curve in study.curves
        for point in curve.points
    ]


def _difference(name: str, one: PairedDifference | None) -> dict[str, Any]:
    values = (one.value, one.low, one.high, one.by_seed.sd, one.verdict) if one else (None,) * 5
    return dict(zip((f"{name}_points", f"{name}_low", f"{name}_high", f"{name}_sd", f"{name}_verdict"), values,
                    strict=True))


def to_json(study: LearningCurves) -> dict[str, Any]:
    """All results in plain values."""
    return {"title": study.title, "sentence": sentence(study), "teacher": study.teacher,
            "teacher_accuracy": study.teacher_accuracy, "teacher_data_fraction": study.teacher_fraction,
            "majority": study.majority, "test_images": study.tested, "people": study.people,
            "complete": study.whole, "points": lines(study), "note": note(study), "notice": NOTICE}


def as_csv(sweep: Sweep, found: Sequence[LearningCurves], table: Sequence[Row], store: Store) -> str:
    """A line per model and share, the teacher's accuracy and every setting that all share beside it."""
    known = [recorded for row in table if (recorded := versions(row, store))]
    common = {**shared(sweep), **(known[0] if known else {}), "audit": audit_verdict(table, store),
              "notice": NOTICE}
    written = [{"sweep": sweep.id, **line, "teacher_accuracy": study.teacher_accuracy, "majority": study.majority,
                "test_images": study.tested, **common} for study in found for line in lines(study)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(name for line in written for name in line)))
    writer.writeheader()
    writer.writerows(written)
    return buffer.getvalue()


def all_rows(found: Sequence[LearningCurves]) -> list[dict[str, Any]]:
    """The rows of all studies, each with its title where it has one."""
    return [{**({"": one.title} if one.title else {}), **row} for one in found for row in rows(one)]


def as_table(found: Sequence[LearningCurves]) -> str:
    """The rows of all studies as LaTeX."""
    notes = " ".join(dict.fromkeys(f"In brackets: {interval_note(one)}." for one in found))
    return as_latex(all_rows(found), f"Accuracy by share of the training images, in per cent. {notes}")
