"""One run in full: scores, curves, settings, and what can be done with it."""

import io
from dataclasses import fields
from functools import lru_cache
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from kd.evaluation.run_warnings import first_epoch_line, run_warnings
from kd.inference.record import lines as engine_lines
from kd.jobs.queue import queue
from kd.reporting import bundle
from kd.roles import COLOURS, STUDENT
from kd.spec import RunSpec
from kd.store.runs import CANCELLED, FAILED, FINISHED, INTERRUPTED, PLANNED, Run
from pages.parts.distill import teacher_cache
from pages.parts.runs.export import export_section
from pages.parts.shared import format, links, run_list, run_progress
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import count, duration, percent
from pages.parts.shared.report import report_buttons
from pages.parts.shared.run_list import Entry
from pages.parts.shared.run_warnings import data_verdict, show_warnings
from pages.parts.shared.theme import CHART, NEUTRAL, STATUS, TERMS, tidy

POLL = 2.0
AGAIN = {PLANNED: "Start", INTERRUPTED: "Resume", CANCELLED: "Resume", FAILED: "Try again"}


def show(entry: Entry, entries: list[Entry]) -> None:
    """Draw one run. entries: all runs, to name its relatives."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(entry.title.capitalize(), anchor=False, width="content")
        icon, colour = STATUS[entry.status]
        st.badge(entry.status, icon=icon, color=colour)
    st.caption(f"{_origin(entry)} · `{entry.run.id}`")
    if entry.run.failure_reason:
        st.error(format.plain(entry.run.failure_reason), icon=":material/error:")
    actions(entry, entries)
    if entry.status == FINISHED:
        scores(entry)
    show_warnings(warning.text for warning in run_warnings(entry.run))
    if entry.status == FINISHED:
        data_verdict(entry.run)
    images = entry.summary.get("images", {})
    for line in filter(None, (_computed(entry), _trained_on(images), first_epoch_line(entry.run))):
        st.caption(format.plain(line))
    for line in engine_lines(entry.run):
        st.caption(format.plain(line))
    teacher_cache.show_usage(entry.run)
    teacher_cache.show_cache(entry.run)
    if folds := _folds(entry, entries):
        st.caption(folds)
    st.fragment(_live, run_every=POLL if entry.active else None)(entry)
    if entry.status == FINISHED:
        if entry.role == STUDENT:
            with usage_errors():
                report_buttons(entry.run)
        with usage_errors():
            _everything(entry.run)
        export_section(entry.run, len(entry.summary["classes"]))
    settings(entry.spec)


def _everything(run: Run) -> None:
    """A button that downloads everything of a run."""
    st.download_button("Everything (zip)", lambda: _packed(run), f"{run.id}.zip", "application/zip", on_click="ignore",
                       icon=":material/folder_zip:", key="pack",
                       help=f"Settings, log, scores, predictions, weights, exports and report: "
                            f"{format.size(bundle.packed_size(run))} unpacked.")


def _packed(run: Run) -> bytes:
    buffer = io.BytesIO()
    bundle.write(run, buffer)
    return buffer.getvalue()


def _folds(entry: Entry, entries: list[Entry]) -> str:
    """`Fold teachers: 5 of 5 finished, 42 MB`, for a teacher of out-of-fold soft targets."""
    own = [other for other in entries if other.spec.fold and other.spec.without_fold == entry.spec]
    done, used = sum(one.status == FINISHED for one in own), format.size(sum(one.run.size() for one in own))
    return f"Fold teachers: {done} of {len(own)} finished, {used}. They are deleted with this run." if own else ""


def _origin(entry: Entry) -> str:
    spec = entry.spec
    return f"{format.plain(run_list.data_name(spec))} at {spec.sizes} · planned {entry.created:%d %B %Y, %H:%M}"


def actions(entry: Entry, entries: list[Entry]) -> None:
    """What can be done with the run in its present state."""
    with st.container(horizontal=True, vertical_alignment="center"):
        jobs = queue(store().paths)
        if entry.active and st.button("Cancel", icon=":material/stop_circle:", key="cancel"):
            jobs.cancel(entry.run)
            st.toast("Stopping. The best weights so far are kept.", icon=":material/stop_circle:")
        if entry.status in AGAIN and st.button(AGAIN[entry.status], icon=":material/resume:", type="primary",
                                               key="resume"):
            with usage_errors():
                jobs.resume(entry.run)
                st.rerun()
        for student in _students(entry, entries):
            links.compare(student.run.id, "Compare" if student is entry else f"Compare {student.spec.model_label}")
            links.evaluate(student.run.id, "Evaluate" if student is entry else f"Evaluate {student.spec.model_label}")
        if entry.active:
            links.watch(entry.run.id)
        if not entry.active and st.button("Delete", icon=":material/delete:", key="delete"):
            st.dialog("Delete this run?", icon=":material/delete:")(ask)(entry.run)


def _students(entry: Entry, entries: list[Entry]) -> list[Entry]:
    """The finished students to compare: the run itself, or the latest few of a teacher."""
    if entry.status != FINISHED:
        return []
    if entry.role == STUDENT:
        return [entry]
    return [other for other in entries if other.spec.teacher == entry.run.id and other.status == FINISHED][:2]


def ask(run: Run) -> None:
    """What a run's deletion frees, and the two answers; or why it cannot be deleted."""
    folds = store().folds_of(run) if run.readable() else []
    also = f", and its {len(folds)} fold teachers" if folds else ""
    st.markdown(f"`{run.id}` with its weights, curves and scores{also} will be removed for good. "
                f"This frees {format.size(sum(one.size() for one in (run, *folds)))}.")
    with st.container(horizontal=True):
        gone = st.button("Delete for good", type="primary", key="delete-confirmed")
        if st.button("Keep it", key="delete-kept"):
            st.rerun()
    if gone:
        with usage_errors():
            store().delete(run.id)
            st.query_params.pop("run", None)
            st.toast("Deleted.", icon=":material/delete:")
            st.rerun()


def scores(entry: Entry) -> None:
    """The finished run's numbers in a row."""
    summary, found = entry.summary, entry.run.evaluation or {}
    numbers = {"Accuracy": percent(summary.get("accuracy")), "Macro-F1": percent(summary.get("macro_f1")),
               "NLL": f"{found['loss']:.3f}" if "loss" in found else "–", "ECE": percent(found.get("ece")),
               "Parameters": count(summary.get("parameters")), "FLOPs": count(summary.get("flops")),
               "Training time": duration(summary.get("seconds")), "On disk": format.size(entry.run.size())}
    if mask := summary.get("mask"):
        numbers["Mask area"] = percent(mask["area"])
    if mask and "fill_only" in mask:
        numbers["All hidden"] = percent(mask["fill_only"])
    with st.container(horizontal=True, gap="small"):
        for label, value in numbers.items():
            st.metric(label, value, width=118)
    tested = found.get("images")
    best = summary.get("best_epoch")
    if tested and best is not None:
        st.caption(f"Scores on {tested:,} test images, with the weights of epoch {best + 1}, the best on validation. "
                   "NLL: cross-entropy with the labels; ECE: expected calibration error; lower is better. FLOPs are "
                   "for one image."
                   + (" All hidden: accuracy for the fill alone." if "fill_only" in (mask or {}) else ""))


def _computed(entry: Entry) -> str:
    """Precision, device and threads as the run recorded them, `bf16-mixed, cpu, 2 threads`; empty before it started."""
    started = entry.run.last_event("started") or {}
    precision = entry.summary.get("precision") or started.get("precision")
    if not precision:
        return ""  # not started, or by a version that did not record it
    used = entry.summary.get("threads") or [started["threads"]]
    words = f"{used[0]} thread{'s' if used[0] > 1 else ''}" if len(used) == 1 else f"{used[0]} to {used[-1]} threads"
    return f"{precision}, {started.get('device', 'cpu')}, {words}"


def _trained_on(images: dict[str, int]) -> str:
    """`44 labelled and 120 unlabelled training images, 3 copies of validation or test images left out`; empty where all
    were labelled."""
    if not images.get("unlabelled"):
        return ""
    left_out = ((images.get("tested_copies"), "copies of validation or test images"),
                (images.get("tested_patients"), "images of patients of validation or test"))
    return ", ".join([f"{images['labelled']:,} labelled and {images['unlabelled']:,} unlabelled training images",
                      *(f"{count:,} {what} left out" for count, what in left_out if count)])


def _live(entry: Entry) -> None:
    run = entry.run
    if entry.active:
        if run.status != entry.status:
            st.rerun()
        st.progress(run_progress.share(run) if entry.status != "queued" else 0.0, text=run_progress.words(run))
        speed = run.progress.get("images_per_second")
        if speed:
            st.caption(f"{speed:,.0f} images/s")
    curves(run, COLOURS[entry.role])


def curves(run: Run, colour: str) -> None:
    """Loss terms as they add up, and validation scores, by epoch."""
    epochs = run.epochs()
    if not epochs:
        st.caption("No epoch has finished yet: the curves begin with the first.")
        return
    loss, score = _charts(run, colour, epochs[-1]["time"])
    with st.grid(2, min_column_width=340):
        st.plotly_chart(loss, config=CHART, key=f"loss-{run.id}",
                        alt="Training loss by term and validation loss, by epoch")
        st.plotly_chart(score, config=CHART, key=f"score-{run.id}", alt="Validation accuracy and macro-F1 by epoch")


@lru_cache(maxsize=32)
def _charts(run: Run, colour: str, latest: float) -> tuple[go.Figure, go.Figure]:
    """Made once per epoch for all viewers: making them takes longer than the rest of a poll."""
    epochs = run.epochs()
    return loss_chart(epochs), score_chart(epochs, colour)


def loss_chart(epochs: list[dict[str, Any]]) -> go.Figure:
    """Loss terms stacked (their sum is the loss that was minimised) under the validation loss."""
    at = [event["epoch"] + 1 for event in epochs]
    figure = go.Figure()
    for number, term in enumerate(epochs[-1]["terms"]):
        figure.add_scatter(x=at, y=[event["terms"].get(term) for event in epochs], name=term, stackgroup="terms",
                           mode="lines", line={"width": 1, "color": TERMS[number % len(TERMS)]})
    figure.add_scatter(x=at, y=[event["val_loss"] for event in epochs], name="validation", mode="lines+markers",
                       line={"dash": "dot", "color": NEUTRAL}, marker={"size": 4})
    figure.update_yaxes(title="loss", rangemode="tozero")
    figure.update_xaxes(title="epoch", dtick=ticks(at))
    return tidy(figure)


def score_chart(epochs: list[dict[str, Any]], colour: str) -> go.Figure:
    """Validation accuracy and macro-F1 in percent."""
    at = [event["epoch"] + 1 for event in epochs]
    figure = go.Figure()
    for key, name, dash in (("val_accuracy", "accuracy", "solid"), ("val_macro_f1", "macro-F1", "dot")):
        figure.add_scatter(x=at, y=[event[key] for event in epochs], name=name, mode="lines+markers",
                           line={"color": colour, "dash": dash}, marker={"size": 4})
    figure.update_yaxes(title="validation", tickformat=".0%")
    figure.update_xaxes(title="epoch", dtick=ticks(at))
    return tidy(figure)


def ticks(epochs: list[int]) -> int | None:
    """There is no epoch 1.5: every epoch gets a tick while there is room, and plotly chooses after that."""
    return 1 if len(epochs) <= 12 else None


def settings(spec: RunSpec) -> None:
    """The run's settings: those that differ from their defaults first, the rest on demand."""
    rows = [_setting(spec, item) for item in fields(RunSpec)]
    frame = pd.DataFrame(rows)
    changed = frame[frame["Value"] != frame["Default"]]
    st.markdown("**Settings that differ from their defaults**")
    _table(changed)
    with st.expander("All settings"):
        _table(frame)


def _setting(spec: RunSpec, item: Any) -> dict[str, str]:
    default = {} if item.name == "method_args" else item.default
    return {"Setting": item.name.replace("_", " "), "Value": _plain(getattr(spec, item.name)),
            "Default": _plain(default), "Meaning": item.metadata["help"]}


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {number:g}" for key, number in value.items()) or "–"
    return f"{value:g}" if isinstance(value, float) else str(value) or "–"


def _table(frame: pd.DataFrame) -> None:
    st.dataframe(frame, hide_index=True, height="content",
                 column_config={"Meaning": st.column_config.TextColumn(width="large")})
