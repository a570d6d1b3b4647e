"""An 8-bit student beside the student: what it costs and how its accuracy differs, without torch."""

from collections.abc import Mapping
from typing import Any

from kd.evaluation.report import BYTES, SECONDS, SHARE, MetricRow, ModelReport
from kd.metrics.bootstrap import GAP_SPAN, bootstrap_ci
from kd.roles import EIGHT_BIT, STUDENT
from kd.store.eight_bit import EightBit

FORWARD = "forward pass"
# of the figures' pairs of maps, in words
PAIRS = {"int8_float32": "8-bit student and student", "float32_teacher": "student and teacher",
         "int8_teacher": "8-bit student and teacher"}


def price_rows(found: Mapping[str, ModelReport]) -> list[MetricRow]:
    """Size of each model's weights; of the student and its 8-bit form, where `found` has it, the time of a forward pass
    as well."""
    rows = [MetricRow("price", "weights on disk", role, one.run.weights.stat().st_size, unit=BYTES)
            for role, one in found.items() if one.run.weights.exists()]
    form = found[EIGHT_BIT].run if EIGHT_BIT in found else None
    if not isinstance(form, EightBit):
        return rows
    figures = form.figures
    return [*rows, _time(f"{FORWARD}, torch", STUDENT, figures["torch"]),
            _time(f"{FORWARD}, onnxruntime", STUDENT, figures["float32"]["timing"]),
            _time(f"{FORWARD}, onnxruntime", EIGHT_BIT, figures["int8"]["timing"])]


def _time(measure: str, role: str, timing: Mapping[str, Any]) -> MetricRow:
    return MetricRow("price", measure, role, timing["median"], timing["low"], timing["high"], unit=SECONDS)


def difference(student: ModelReport, form: ModelReport) -> MetricRow:
    """Accuracy of the 8-bit student minus the student's, paired by image."""
    change = form.answers.right.astype(float) - student.answers.right
    found = bootstrap_ci(change, form.answers.groups, span=GAP_SPAN)
    return MetricRow("8 bits", "accuracy, 8-bit student − student", EIGHT_BIT, found.mean, found.low, found.high, 0.0,
                     images=found.n, unit=SHARE)


def map_rows(form: EightBit) -> list[MetricRow]:
    """Agreement of class maps, a row for each of PAIRS that there is: mean and interval, with the baseline of different
    images; and as many of the 5 % quantile."""
    rows = []
    for pair, one in form.figures["maps"].items():
        if one:
            low, high = one["interval"]
            rows += [MetricRow("8 bits", f"class maps, {PAIRS[pair]}", EIGHT_BIT, one["mean"], low, high, one["chance"],
                               images=one["images"], unit="number"),
                     MetricRow("8 bits", f"class maps, {PAIRS[pair]}, 5 % quantile", EIGHT_BIT, one["low"],
                               images=one["images"], unit="number")]
    return rows
