"""Report of a distillation as one HTML file, from the stored runs and a few forward passes for its maps."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kd.errors import Stopped, UsageError
from kd.evaluation import predict
from kd.evaluation.report import SECONDS, MetricRow, paired
from kd.inspection.compare import Comparison
from kd.inspection.explain import protocol_line
from kd.progress import ProgressCallback, no_progress
from kd.reporting import charts, content, maps
from kd.reporting.cases import CaseGroup, disagreements, failures, successes
from kd.reporting.content import Subject
from kd.reporting.files import report_path, reportable
from kd.reporting.page import render
from kd.reporting.recipe import Recipe, recipe
from kd.roles import STUDENT, TEACHER
from kd.store.files import write_bytes
from kd.store.runs import Run, Store
from kd.version import VERSION

SPREAD = 2.0  # of the slowest forward pass to the fastest, from which on times are called unreliable


def build(store: Store, run: Run, file: str = "", progress: ProgressCallback = no_progress,
          should_stop: Callable[[], bool] = lambda: False) -> Path:
    """Write the report of a finished student's distillation, by default into its folder; returns the file's path.

    Raises UsageError for a run without a teacher, before the test, or where data set or weights are missing; Stopped
    when `should_stop` returns True.
    """
    student = reportable(store, run)
    about = content.subject(store, student)
    for role in (TEACHER, STUDENT):
        if role not in about.reports:
            raise UsageError(f"The test answers of {about.cast[role].id} are missing. Write them anew: "
                             f"python -m kd evaluate {about.cast[role].id}.")
    path = Path(file) if file else report_path(student)
    write_bytes(path, _page(store, about, progress, should_stop).encode())
    return path


def _page(store: Store, about: Subject, progress: ProgressCallback, should_stop: Callable[[], bool]) -> str:
    progress("Reading the data set", 0.0)
    data = predict.data_of(about.student, store)
    maker = maps.MapMaker(store, about.student, data)
    groups, failed = _groups(about, maker)
    done, total = 0, sum(len(one.cases) for one in (*groups, *failed))

    def report() -> None:
        nonlocal done
        if should_stop():
            raise Stopped
        done += 1
        progress("Making heat maps", done / (total + 1))

    shown, shown_failures = ([maker.group(one, report) for one in some] for some in (groups, failed))
    progress("Writing the report", total / (total + 1))
    scores = content.scores(about)
    teacher = about.cast[TEACHER]
    return render({
        "title": f"{data.info.title}: {teacher.label} → {about.student.label}", "student": about.student,
        "made": time.strftime("%d %B %Y, %H:%M"), "version": VERSION, "side": maps.SIDE,
        "answer": content.answer(about), "asked": content.asked(about, data),
        "data": content.believed(about, data), "scores": scores, "charts": _charts(about, scores),
        "cost": _cost(about, maker.timed), "settings": content.settings(about),
        "maps": {"groups": shown, "explainers": maps.titles(maker.timed) if maker.timed else [],
                 "coarse": maker.coarse, "evaluated": content.explained(store, about.student)},
        "failures": shown_failures, "provenance": content.provenance(about),
        "recipe": recipe(about.series, store) if about.series else Recipe((), False, "The control of this student was "
                                                                          "deleted: its settings are listed above.")})


def _groups(about: Subject, maker: maps.MapMaker) -> tuple[list[CaseGroup], list[CaseGroup]]:
    """The images of the sections on maps and on failures; none where teacher and student saw different images."""
    teacher, student = about.reports[TEACHER], about.reports[STUDENT]
    if not paired(teacher, student) or student.answers.names != maker.data.test.names:
        return [], []
    first = successes(teacher, student, maps.outlined(maker.data))
    second = disagreements(teacher, student, [one.index for one in first.cases])
    shown = [one.index for group in (first, second) for one in group.cases]
    return [one for one in (first, second) if one.cases], list(failures(teacher, student, shown))


def _charts(about: Subject, scores: dict[str, Any]) -> dict[str, str]:
    trained = {role: run for role, run in about.cast.items() if run.epochs()}
    recall = scores["recall"]
    few = len({row.measure for row in recall}) <= charts.MOST_CLASSES
    return {"overall": charts.intervals(scores["overall"], "overall"), "calibration": charts.calibration(about.reports),
            "recall": charts.intervals(recall, "recall") if few else "",
            "accuracy": charts.curves(trained, "val_accuracy", "validation accuracy"),
            "loss": charts.curves(trained, "val_loss", "validation cross-entropy, nats")}


def _cost(about: Subject, timed: Comparison | None) -> dict[str, Any]:
    passes = {part.role: part.explanation.forward for part in timed.panels} if timed else {}
    rows = [MetricRow("price", "forward pass of one image", role, one.median, one.low, one.high, unit=SECONDS)
            for role, one in passes.items()]
    return {"lines": content.prices(about, rows), "repeats": maps.REPEATS,
            "busy": any(one.high > SPREAD * one.low for one in passes.values()),
            "protocol": protocol_line(timed.teacher.explanation.protocol) if timed else ""}
