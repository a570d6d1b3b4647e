"""Result of a distillation over its seeds: one sentence, one table, one next step."""

from collections.abc import Callable

import streamlit as st

from kd.experiments.differences import signed
from kd.experiments.results import (
    ArmResult,
    DistillationResult,
    comparison,
    distillation_result,
    sentence,
    with_interval,
)
from kd.roles import TEACHER
from kd.store.files import modified
from kd.store.groups import Distillation, Replicates
from kd.store.runs import Run
from pages.parts.shared import links
from pages.parts.shared.format import count, duration, percent, unbroken
from pages.parts.shared.run_warnings import data_verdict

LONG = 8  # seeds that fit before their table scrolls


def result(series: Replicates) -> DistillationResult | None:
    """`kd.experiments.results.outcome`, kept until one of the runs changes."""
    return _result(series, tuple(map(_changed, series.runs)))


def _changed(run: Run) -> tuple[str, int, int]:
    paths = (run.path / "summary.json", run.path / "predictions.npz")
    first, second = map(modified, paths)
    return str(run.path), first, second


@st.cache_data(max_entries=64, show_spinner=False)
def _result(_series: Replicates, changed: tuple[tuple[str, int, int], ...]) -> DistillationResult | None:
    return distillation_result(_series)


def verdict(series: Replicates) -> str:
    """The result in one sentence, in Markdown; empty until a seed has finished."""
    found = result(series)
    return sentence(found, lambda words: f"**{words}**").replace(" %", "\u00a0%") if found else ""


def result_view(series: Replicates, trio: Distillation) -> None:
    """Draw the result of the finished seeds. trio: the seed shown on the page, to which the next steps lead."""
    found = result(series)
    if found is None:
        st.caption("A run's test predictions are missing; evaluate it again to see the result.")
        return
    with st.container(border=True, gap="small"):
        st.markdown(verdict(series))
        if found.left_out:
            st.caption(f"{found.left_out} of {len(series.pairs)} seeds are left out: not finished, or tested on other "
                       "images.")
        scores(found)
        if len(series.pairs) > 1:
            _by_seed(found)
        data_verdict(trio.student)
        if trio.student.summary:
            _next(trio)
    st.caption(protocol(found))


def _next(trio: Distillation) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Compare explanations", type="primary", icon=":material/compare:", key=f"see-{trio.student.id}"):
            st.switch_page("pages/compare.py", query_params={"run": trio.student.id})
        links.evaluate(trio.student.id)


def scores(found: DistillationResult) -> None:
    """Draw the table of what distilling bought and what the models cost."""
    names = {arm.role: f"{arm.role.capitalize()} · {arm.run.label}" for arm in found.arms}
    lines = [*comparison(found), *_costs(found)]
    lines[0]["student − teacher"] = with_interval(found.vs_teacher)
    keys = {"": "", **names, "student − control": "Student − control", "student − teacher": "Student − teacher"}
    st.table([{title: unbroken(line.get(key, "")) for key, title in keys.items()} for line in lines],
             border="horizontal", hide_index=True, alt="Test accuracy, macro-F1, NLL, calibration error, parameters, "
             "FLOPs and training time of teacher, control and student")


def _costs(found: DistillationResult) -> list[dict[str, str]]:
    def line(title: str, cell: Callable[[ArmResult], str]) -> dict[str, str]:
        return {"": title, **{arm.role: cell(arm) for arm in found.arms}}

    return [line("Parameters", lambda arm: count(arm.parameters) + _ratio(arm, arm.params_ratio)),
            line("FLOPs", lambda arm: count(arm.flops) + _ratio(arm, arm.flops_ratio)),
            line("Training", lambda arm: duration(arm.seconds.mean) + (" each" if arm.seconds.n > 1 else ""))]


def _ratio(arm: ArmResult, ratio: float) -> str:
    return "" if arm.role == TEACHER else f" (÷ {ratio:.3g})"


def protocol(found: DistillationResult) -> str:
    """The protocol of the numbers, in one caption."""
    drawn = "resampled by patient" if found.vs_control.people else "paired by image"
    over = " ±: standard deviation over seeds; the interval is of these trained models on other test images." if len(
        found.seeds) > 1 else ""
    return (f"Test set. NLL: cross-entropy with the labels; ECE: expected calibration error in 15 bins of confidence; "
            f"lower is better. FLOPs of one image (multiply-adds counted as two). In brackets: 95 % bootstrap "
            f"intervals of the differences, {drawn}.{over} Not for clinical use.")


def _by_seed(found: DistillationResult) -> None:
    """A table of every finished seed, since an average can hide that seeds disagree."""
    _, control, student = found.arms
    apart = {"NLL": found.nll_vs_control, "ECE": found.ece_vs_control}
    own = zip(
        found.seeds, control.accuracy.values, student.accuracy.values, found.vs_control.by_seed.values, strict=True
    )
    rows = [{"Seed": str(seed), "Control": percent(first), "Student": percent(second), "Difference": signed(gap),
             **{name: signed(one.by_seed.values[number], one.measure.digits) for name, one in apart.items()}}
            for number, (seed, first, second, gap) in enumerate(own)]
    with st.container(height=320 if len(rows) > LONG else "content", border=False):
        st.table(rows, border="horizontal", hide_index=True, alt="Accuracy of control and student of each seed, and "
                 "the student's differences in accuracy, NLL and ECE")
    if found.vs_control.by_seed.sd is not None:
        whole = unbroken(f"{signed(found.vs_control.value)} ± {found.vs_control.by_seed.sd:.1f} points")
        st.caption(f"Difference: student − control in accuracy, {whole} over the seeds; NLL and ECE likewise, in nats "
                   "and points.")
