"""Scores of teacher, control and student: table and download, calibration, recall, confusions."""

from collections.abc import Sequence

import streamlit as st

from kd.evaluation.eight_bit import price_rows
from kd.evaluation.explanation_rows import latencies, rows
from kd.evaluation.explanation_store import COST, choices, load_all
from kd.evaluation.report import MetricRow, ModelReport, agreement_rows, model_report, paired, shared_errors
from kd.experiments.results import differences
from kd.roles import CONTROL, ROLES, STUDENT, TEACHER
from kd.store.eight_bit import EightBit
from kd.store.files import modified
from kd.store.groups import Replicates
from kd.store.runs import Run, Store
from pages.parts.evaluate.charts import alike_chart, confusion_chart, recall_chart, reliability_chart
from pages.parts.evaluate.tables import side_by_side
from pages.parts.shared.format import plain
from pages.parts.shared.result_summary import result, verdict
from pages.parts.shared.theme import CHART

Scores = dict[str, ModelReport]


def scored(cast: dict[str, Run]) -> Scores:
    """Reports of the models that were tested, by role."""
    found = {role: _scored(role, str(run.path), _changed(run), run) for role, run in cast.items()}
    return {role: one for role, one in found.items() if one is not None}


def _changed(run: Run) -> tuple[int, ...]:
    paths = (run.path / "predictions.npz", run.path / "summary.json", run.weights)
    return tuple(map(modified, paths))


@st.cache_data(max_entries=32, show_spinner="Reading the predictions")
def _scored(role: str, path: str, changed: tuple[int, ...], _run: Run) -> ModelReport | None:
    return model_report(role, _run)


def scores(found: Scores, latency: Sequence[MetricRow]) -> list[MetricRow]:
    """The first block, from the stored predictions; its rows, for the download.

    latency: of a forward pass, where it was measured.
    """
    _verdict(found)
    made = [row for one in found.values() for row in one.rows]
    alike = [row for role, other in found.items() if role != TEACHER and paired(found[TEACHER], other)
             for row in agreement_rows(found[TEACHER], other)]
    prices = price_rows(found)
    side_by_side([*(row for row in made if row.section != "recall"), *prices, *latency], found, "Baseline")
    st.caption(f"{found[STUDENT].images:,} test images. In brackets: 95 % intervals (Wilson; of macro-F1 bootstrap, "
               "none where every prediction is right) that treat images of one patient as independent; of NLL "
               "bootstrap, by patient where patients are known. Baseline: the majority class; for AUROC, a random "
               "classifier; for NLL, the classes' shares. AUROC: macro average, one class against the rest. NLL: "
               "cross-entropy with the labels. ECE: expected calibration error in 15 bins of confidence. Of both, 0 is "
               "best. FLOPs: multiply-adds counted as "
               "two"
               + (" (an 8-bit student's as float32's). "
                  if any(isinstance(one.run, EightBit) for one in found.values()) else ". ")
               + ("" if latency else "Latency is measured with the cost of explanations, below."))
    _calibration(found)
    _confusions(found, alike)
    return [*made, *prices, *alike]


def latency(runs: Store, student: Run) -> list[MetricRow]:
    """Of a forward pass of each model, as it was measured with the cost of some explanations; else nothing."""
    for choice in choices(student):
        found = load_all(runs, student, choice)
        if found and found[COST]:
            return latencies(rows(found))
    return []


def _verdict(found: Scores) -> None:
    if all(role in found for role in ROLES):
        teacher, control, student = (found[role].run for role in ROLES)
        series = Replicates(teacher, ((control, student),))
        st.markdown(verdict(series))
        if whole := result(series):
            st.caption(f"{differences(whole)}. In brackets: 95 % bootstrap intervals, paired by image.")
    elif CONTROL not in found:
        st.caption("There is no finished control (the same student without a teacher), so the gain "
                   "from distillation is unknown.")


def _calibration(found: Scores) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Calibration", anchor=False)
        st.plotly_chart(reliability_chart(found), config=CHART, key="evaluate_reliability",
                        alt="Accuracy by confidence, per model")
        st.caption("A point per bin of confidence, larger with more images. On the dotted line, predictions of "
                   "80 % confidence are right 80 % of the time; below it, a model is overconfident.")
    with right:
        st.subheader("Recall per class", anchor=False)
        st.plotly_chart(recall_chart(found), config=CHART, key="evaluate_recall",
                        alt="Recall of each class by each model")
        st.caption("Share of a class's images predicted as that class, with 95 % Wilson intervals. Dotted: random "
                   "guessing.")


def _confusions(found: Scores, alike: list[MetricRow]) -> None:
    st.subheader("Confusions", anchor=False)
    with st.grid(len(found), min_column_width=260):
        for role, one in found.items():
            st.plotly_chart(confusion_chart(one), config=CHART, key=f"evaluate_confusion_{role}",
                            alt=f"Counts of predictions of the {role} by true class")
    st.caption("Images by true class (rows) and predicted class (columns); colour is the share of the true class.")
    if not paired(found[TEACHER], found[STUDENT]):
        st.caption("Teacher and student were tested on different images: their errors cannot be compared.")
        return
    shared = shared_errors(found[TEACHER], found[STUDENT])
    st.markdown("**Shared errors**")
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.plotly_chart(alike_chart(shared), config=CHART, key="evaluate_alike",
                        alt="Counts of images on which teacher and student make the same wrong prediction")
    with right:
        most = shared.most()
        st.markdown("\n".join(f"- **{plain(one.truth)}** predicted as **{plain(one.answer)}** by both: {one.count} "
                              f"(expected {one.expected:.1f})" for one in most)
                    or "On no image do teacher and student make the same wrong prediction.")
        side_by_side(alike, found, "Expected")
    st.caption("Expected: for independent errors within each true class, at each model's own rates. Divergence: "
               "Kullback-Leibler of the predicted probabilities; 0 where they are equal.")
