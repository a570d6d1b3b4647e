"""Result of a distillation over its seeds: one sentence, one table, one next step."""

import streamlit as st

from kd.experiments.results import ArmResult, DistillationResult, SeedScores, distillation_result, sentence, signed
from kd.store.files import modified
from kd.store.groups import Distillation, Replicates
from kd.store.runs import Run
from pages.parts.shared import links
from pages.parts.shared.format import count, duration, percent, unbroken

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
        st.table([row(arm) for arm in found.arms], border="horizontal", hide_index=True,
                 alt="Test accuracy, macro-F1, parameters, FLOPs and training time of teacher, control and student")
        if len(series.pairs) > 1:
            _by_seed(found)
        if trio.student.summary:
            _next(trio)
    st.caption(protocol(found))


def _next(trio: Distillation) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Compare explanations", type="primary", icon=":material/compare:", key=f"see-{trio.student.id}"):
            st.switch_page("pages/compare.py", query_params={"run": trio.student.id})
        links.evaluate(trio.student.id)


def protocol(found: DistillationResult) -> str:
    """The protocol of the numbers, in one caption."""
    drawn = "resampled by patient" if found.vs_control.people else "paired by image"
    over = " ±: standard deviation over seeds; the interval is of these trained models on other test images." if len(
        found.seeds) > 1 else ""
    return (f"Test set; FLOPs of one image (multiply-adds counted as two). In brackets: 95 % bootstrap intervals of "
            f"the differences in points, {drawn}.{over} Not for clinical use.")


def row(arm: ArmResult) -> dict[str, str]:
    """An arm in words."""
    teacher = arm.role == "teacher"
    cells = {"": f"{arm.role.capitalize()} · {arm.run.spec.model_label}", "Accuracy": spread(arm.accuracy),
            "vs teacher": "" if teacher else f"{signed(arm.gain)} points", "Macro-F1": spread(arm.macro_f1),
            "Parameters": count(arm.parameters) + ("" if teacher else f" (÷ {arm.params_ratio:.3g})"),
            "FLOPs": count(arm.flops) + ("" if teacher else f" (÷ {arm.flops_ratio:.3g})"),
            "Training": duration(arm.seconds.mean) + (" each" if arm.seconds.n > 1 else "")}
    return {name: unbroken(text) for name, text in cells.items()}


def spread(scores: SeedScores) -> str:
    """`90.0 %`, or `90.0 ± 1.2 %` over seeds."""
    mean = percent(scores.mean)
    return mean if scores.sd is None else f"{mean.removesuffix(' %')} ± {percent(scores.sd)}"


def _by_seed(found: DistillationResult) -> None:
    """A table of every finished seed, since an average can hide that seeds disagree."""
    _, control, student = found.arms
    own = zip(
        found.seeds, control.accuracy.values, student.accuracy.values, found.vs_control.by_seed.values, strict=True
    )
    rows = [{"Seed": str(seed), "Control": percent(first), "Student": percent(second), "Difference": signed(gap)}
            for seed, first, second, gap in own]
    with st.container(height=320 if len(rows) > LONG else "content", border=False):
        st.table(rows, border="horizontal", hide_index=True, alt="Accuracy of control and student of each seed")
    if found.vs_control.by_seed.sd is not None:
        whole = unbroken(f"{signed(found.vs_control.points)} ± {found.vs_control.by_seed.sd:.1f} points")
        st.caption(f"Difference: student − control, {whole} over the seeds.")
