"""Result of a sweep: the best cell in words, scores as heat maps, accuracy against cost, and every number."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from kd.experiments.results import sentence
from kd.experiments.sweep import Sweep
from kd.experiments.sweep.explanation_times import missing, read
from kd.experiments.sweep.heatmaps import ACCURACY, GAIN, MEASURES, VALIDATION, grids, reach, single
from kd.experiments.sweep.main_numbers import as_table
from kd.experiments.sweep.progress import SweepStatus
from kd.experiments.sweep.results import (
    COSTS,
    FLOPS,
    Row,
    as_csv,
    audit_verdict,
    best,
    best_control_sentence,
    front,
    is_proven,
    points,
    record,
    table,
)
from kd.store.runs import FAILED, Store
from pages.parts.shared import links
from pages.parts.shared.context import store
from pages.parts.shared.format import percent, plain, unbroken
from pages.parts.shared.run_warnings import show_warnings
from pages.parts.shared.theme import CHART, STATUS_WORDS
from pages.parts.sweep import data_efficiency
from pages.parts.sweep.charts import front_chart, heat_chart, list_chart
from pages.parts.sweep.progress import measure, measuring

WORDS = {ACCURACY: "Test accuracy", VALIDATION: "Validation F1", GAIN: "Gain over control"}
SHARES = "%.1f %%"
COLUMNS = {
    "cell": st.column_config.NumberColumn("Cell"), "status": st.column_config.TextColumn("Status"),
    "val_macro_f1": st.column_config.NumberColumn("Val macro-F1", format=SHARES, help="Of the epochs kept; the best "
                                                  "cell is chosen by this."),
    "test_accuracy": st.column_config.NumberColumn("Test accuracy", format=SHARES),
    "test_accuracy_sd": st.column_config.NumberColumn("± (seeds)", format=SHARES, help="Standard deviation over the "
                                                      "seeds."),
    "student_minus_control_points": st.column_config.NumberColumn("Gain over control", format="%+.1f", help="Student − "
                                                                  "control in points, paired by test image."),
    "low": st.column_config.NumberColumn("from", format="%+.1f", help="Its 95 % bootstrap interval."),
    "high": st.column_config.NumberColumn("to", format="%+.1f"),
    "flops": st.column_config.NumberColumn("FLOPs (M)", format="%.2f"),
    "explanation_ms": st.column_config.NumberColumn("Explanation time", format="%.2f ms"),
    "training_seconds": st.column_config.NumberColumn("Training", format="%.0f s"),
    "test_macro_f1": st.column_config.NumberColumn("Test macro-F1", format=SHARES),
    "val_accuracy": st.column_config.NumberColumn("Val accuracy", format=SHARES),
    "control_test_accuracy": st.column_config.NumberColumn("Control's accuracy", format=SHARES),
    "parameters": st.column_config.NumberColumn("Parameters", format="localized"),
    "seeds": st.column_config.NumberColumn("Seeds", help="Whose control and student have finished."),
}
WIDE = {"method": st.column_config.TextColumn("method", width=126)}  # as wide as the longest name there is
PERCENT = [name for name in COLUMNS if name.startswith(("val_", "test_", "control_"))]


def result(sweep: Sweep, now: SweepStatus) -> None:
    """Draw all results so far."""
    rows = table(sweep, store())
    _failures(rows)
    if text := audit_verdict(rows, store()):
        st.caption(f":material/policy: {plain(text)}")
    data_efficiency.section(sweep, rows)
    chosen = best(rows)
    if chosen is None:
        st.caption("Results appear as soon as the first cell has its control and its student.")
        return
    _best(chosen, rows, now)
    _heat(rows, chosen)
    _fronts(sweep, rows, chosen, now)
    _table(sweep, rows)


def _failures(rows: Sequence[Row]) -> None:
    """Each reason once, with the cells that it stopped."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.status == FAILED or row.reason:
            reasons.setdefault(row.reason, []).append(str(row.cell.number))
    for reason, numbers in reasons.items():
        which = f"Cell {numbers[0]}" if len(numbers) == 1 else f"Cells {', '.join(numbers)}"
        st.error(f"**{which} failed.** {plain(reason)}", icon=":material/error:")


def _best(chosen: Row, rows: Sequence[Row], now: SweepStatus) -> None:
    student = chosen.arm("student")
    if student is None or chosen.outcome is None:
        return
    so_far = " so far" if now.done < now.cells else ""
    spread = "" if student.val_macro_f1.sd is None else f" ± {100 * student.val_macro_f1.sd:.1f}"
    with st.container(border=True, gap="small"):
        lead = "Best" if is_proven(chosen) else "No cell is called best. Highest"
        st.markdown(f"**{lead} on validation{so_far}: {plain(chosen.cell.title)}** (cell {chosen.cell.number} of "
                    f"{len(rows)}), macro-F1 {unbroken(percent(student.val_macro_f1.mean) + spread)}.")
        st.markdown(f"{sentence(chosen.outcome, lambda words: f'**{words}**')} Test accuracy "
                    f"{unbroken(percent(student.accuracy.mean))}, macro-F1 "
                    f"{unbroken(percent(student.macro_f1.mean))}.")
        if other := best_control_sentence(rows, chosen, store()):
            st.markdown(plain(other))
        show_warnings(chosen.outcome.warnings)
        with st.container(horizontal=True, vertical_alignment="center"):
            if chosen.student in store():
                links.compare(chosen.student, "Compare explanations")
                links.watch(chosen.student, "Its distillation")
                links.evaluate(chosen.student)
        st.caption("Chosen on validation by macro-F1, of equals by cross-entropy, not on the test set. Mean over the "
                   "seeds; ± is their standard deviation. Not for clinical use.")


def _heat(rows: Sequence[Row], chosen: Row) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Settings", anchor=False)
        measure = st.segmented_control("Score", MEASURES, default=ACCURACY, required=True, key="sweep_measure",
                                       format_func=WORDS.__getitem__, label_visibility="collapsed",
                                       persist_state="session") or ACCURACY
    ends, found = reach(rows, measure), grids(rows, measure)
    if cells := single(found):
        _list(cells, measure, chosen)
        return
    with st.grid(2, min_column_width=320):
        for number, grid in enumerate(found):
            st.plotly_chart(heat_chart(grid, measure, ends, chosen), config=CHART, key=f"heat-{number}",
                            alt=f"{WORDS[measure]} by {grid.down or 'cell'} and {grid.across or 'cell'}: {grid.title}")
    unit = "In percentage points; teal: the student is better." if measure == GAIN else "In per cent."
    st.caption(f"{unit} Mean over the seeds; one scale for all grids; framed: the highest on validation. Choosing a "
               "cell by its test accuracy overestimates it; choose on validation.")


def _list(cells: Sequence[tuple[str, Row]], measure: str, chosen: Row) -> None:
    st.plotly_chart(list_chart(cells, measure, chosen), config=CHART, key="list", alt=f"{WORDS[measure]} of each cell")
    bars = "95 % bootstrap intervals, paired by test image" if measure == GAIN else "standard deviations over the seeds"
    st.caption(f"Mean over the seeds; bars are {bars}; ringed: the highest on validation. Choosing a cell by its "
               "test accuracy overestimates it; choose on validation.")


def _fronts(sweep: Sweep, rows: Sequence[Row], chosen: Row, now: SweepStatus) -> None:
    st.subheader("Accuracy and cost", anchor=False)
    found = points(rows)
    with st.grid(2, min_column_width=340):
        for cost in COSTS:
            if cost == FLOPS or any(point.milliseconds is not None for point in found):
                st.plotly_chart(front_chart(found, front(rows, cost), cost, chosen), config=CHART, key=f"front-{cost}",
                                alt=f"Test accuracy against {cost} of students, controls and teacher")
            else:
                _not_measured(sweep, rows, now)
    times = read(store(), sweep)
    st.caption("Heights are test accuracies, bars their standard deviation over the seeds. The Pareto front is chosen "
               "on validation (macro-F1), so on test it may dip. "
               + (times.words if times else ""))
    if times and not now.active and missing(sweep, store()):
        st.button("Measure the remaining architectures", icon=":material/timer:", on_click=measure, args=(sweep,))


def _not_measured(sweep: Sweep, rows: Sequence[Row], now: SweepStatus) -> None:
    """The one next step."""
    state = measuring(sweep, rows[0].cell.teacher)
    with st.container(border=True, height="stretch", vertical_alignment="center"):
        if state and state.active:
            st.markdown("The explanation time is being measured.")
            return
        if state and state.reason:
            st.error(plain(state.reason), icon=":material/error:")
        st.markdown("The explanation time is measured at the end, once for every architecture.")
        st.button("Measure it now", icon=":material/timer:", on_click=measure, args=(sweep,),
                  disabled=bool(now.active))


def _table(sweep: Sweep, rows: Sequence[Row]) -> None:
    st.subheader("All cells", anchor=False)
    frame = as_frame(sweep, rows)
    st.dataframe(frame, hide_index=True, column_config={**COLUMNS, **WIDE}, placeholder="–", key=f"cells-{sweep.id}",
                 height=min(460, 38 + 35 * len(frame)), alt="Every cell with its numbers")
    _download(sweep, rows, store())


def _download(sweep: Sweep, rows: Sequence[Row], runs: Store) -> None:
    with st.container(horizontal=True):
        st.download_button("All numbers (CSV)", lambda: as_csv(sweep, rows, runs), f"{sweep.id}.csv", "text/csv",
                           on_click="ignore", icon=":material/download:")
        st.download_button("Table (LaTeX)", lambda: as_table(sweep, rows), f"{sweep.id}.tex", "text/x-tex",
                           on_click="ignore", icon=":material/table:")


def as_frame(sweep: Sweep, rows: Sequence[Row]) -> pd.DataFrame:
    """One row a cell; numbers stay numbers, so that columns sort."""
    axes = dict.fromkeys(sweep.axes)
    lines = [{"cell": 0, **axes, **record(row)} for row in rows]
    shown = ["cell", *axes, *(name for name in COLUMNS if name != "cell")]
    frame = pd.DataFrame(lines)[shown]
    frame["status"] = [STATUS_WORDS.get(row.status, f"· {row.status}") for row in rows]
    return frame.assign(flops=pd.to_numeric(frame["flops"]) / 1e6,
                        **{name: 100 * pd.to_numeric(frame[name]) for name in PERCENT})
