"""Linear probes per stage: what each predicts for the image, and its accuracy on the test set."""

import plotly.graph_objects as go
import streamlit as st

from kd.inspection.compare import Comparison, ModelPanel
from kd.inspection.layer_report import LAYER_PLOTS, LayerReport
from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.roles import COLOURS, CONTROL, TEACHER
from kd.store.runs import CANCELLED, FAILED, FINISHED, INTERRUPTED, QUEUED, Run
from pages.parts.compare import roles, url_state
from pages.parts.compare.image_picker import Chosen
from pages.parts.compare.maps import class_badge
from pages.parts.compare.takeaway import takeaway
from pages.parts.shared.context import store
from pages.parts.shared.format import percent, plain, tick
from pages.parts.shared.theme import CHART, tidy

TASK = "readouts"
POLL = 1.0  # seconds between two polls while they are fitted
MOST = 6  # classes with a line of their own
HUES = ("#56B4E9", "#CC79A7", "#E69F00", "#009E73", "#8A8F94", "#9A6324")  # after Okabe and Ito; the target has its own


def decision(comparison: Comparison, chosen: Chosen) -> None:
    """The whole view."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader("Linear probes per stage", anchor=False, width="content")
        class_badge(LAYER_PLOTS["decision"].class_specific)
    part = roles.pick(comparison)
    url_state.renew()
    if tasks.status(part.explanation.run, TASK).active:
        st.fragment(_fitting, run_every=POLL)(part.explanation.run)
        return
    read = roles.layers(part, comparison, chosen)
    if read.decision is None:
        _missing(part)
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        _forming(read, chosen.truth, COLOURS[part.role])
    with right:
        _accuracies(read)
    takeaway(comparison, chosen, None, {f"stages-of-{part.role}": read.figure_spec()},
             lambda: {"image": read.image, **read.arrays()}, read.to_json)


def _missing(part: ModelPanel) -> None:
    """A button that trains the linear probes, or the reason why they cannot be trained."""
    run, state = part.explanation.run, tasks.status(part.explanation.run, TASK)
    st.markdown(f"{LAYER_PLOTS['decision'].reading_note} The linear probes of the {part.role} have not been trained "
                "yet: one pass over its training images, once, in the background.")
    if state.state == FAILED:
        st.error(plain(state.reason or "It failed; no reason was recorded."), icon=":material/error:")
    elif state.state in (CANCELLED, INTERRUPTED):
        st.caption(f"The last attempt was {state.state}.")
    finished = run.status == FINISHED
    st.button("Try again" if state.state == FAILED else "Train linear probes", type="primary", disabled=not finished,
              icon=":material/stacked_line_chart:", on_click=_submit, args=(run,))
    if not finished:
        st.caption(f"The {part.role} is {run.status}. Its linear probes can be trained once it has finished.")


def _submit(run: Run) -> None:
    queue(store().paths).submit_task(run, TASK)


def _cancel(run: Run) -> None:
    queue(store().paths).cancel(tasks.task(run, TASK))


def _fitting(run: Run) -> None:
    """Progress, read off the run's folder; once it has ended the page is drawn anew."""
    state = tasks.status(run, TASK)
    if not state.active:
        st.rerun()
    waits = state.state == QUEUED
    st.progress(min(1.0, max(0.0, state.share)),
                text=state.phase or ("queued" if waits else "starting"))
    st.button("Cancel", icon=":material/stop_circle:", on_click=_cancel, args=(run,))


def _forming(read: LayerReport, truth: str | None, tint: str) -> None:
    """A line per class over the stages; the model's own probability comes last."""
    assert read.decision is not None, "called only where there are linear probes"
    ticks = [*(f"Stage {view.number + 1}" for view in read.stages), "Model"]
    shown = _shown(read)
    rest = iter(HUES)
    figure = go.Figure([_line(read, number, ticks, truth, tint if number == read.target else next(rest))
                        for number in shown])
    figure.update_yaxes(range=[-0.03, 1.03], tickformat=".0%")
    st.plotly_chart(tidy(figure, 330), config=CHART, key="compare_decision",
                    alt="Probability of each class by each stage's linear probe, and by the model")
    st.caption(
        f"{_settled(read)} {LAYER_PLOTS['decision'].reading_note}"
        + (" ✓ marks the true class." if truth else "")
        + (f" The {MOST} likeliest of {len(read.classes)} classes." if len(read.classes) > MOST else "")
    )


def _line(read: LayerReport, number: int, ticks: list[str], truth: str | None, hue: str) -> go.Scatter:
    assert read.decision is not None, "called only where there are linear probes"
    name = tick(read.classes[number]) + (" ✓" if read.classes[number] == truth else "")
    target = number == read.target
    return go.Scatter(x=ticks, y=list(read.decision[:, number]), name=f"<b>{name}</b>" if target else name,
                      mode="lines+markers", line={"color": hue, "width": 4 if target else 1.5},
                      hovertemplate="%{y:.1%}")


def _shown(read: LayerReport) -> list[int]:
    """The likeliest classes at any stage, always with the target, in their own order."""
    assert read.decision is not None, "called only where there are linear probes"
    likely = read.decision.max(axis=0)
    likely[read.target] = 2.0
    return sorted((-likely).argsort(kind="stable")[:MOST].tolist())


def _settled(read: LayerReport) -> str:
    answer = plain(read.classes[read.predicted])
    if read.decided_at is None:
        return f"The model answers “{answer}”; the linear probe of its last stage predicts another class."
    return (f"From stage {read.decided_at + 1} on every linear probe predicts “{answer}”, as the model does. The model "
            "can be less sure than the probes: they learn from the labels alone.")


def _accuracies(read: LayerReport) -> None:
    """Test accuracy of each stage's linear probe, beside the model and the majority-class baseline."""
    facts = read.accuracies
    assert facts is not None, "linear probes come with them"
    ticks = [f"Stage {stage['stage'] + 1}" for stage in facts["stages"]]
    figure = go.Figure(go.Bar(x=ticks, y=[stage["test_accuracy"] for stage in facts["stages"]], name="linear probe",
                              marker_color=COLOURS[CONTROL], hovertemplate="%{y:.1%}"))
    for key, name, dash in (("model", "model", "solid"), ("chance", "majority class", "dot")):
        share = facts[key]["test_accuracy"]
        figure.add_scatter(x=ticks, y=[share] * len(ticks), name=f"{name} {percent(share)}", mode="lines",
                           line={"dash": dash, "color": COLOURS[TEACHER], "width": 2}, hovertemplate="%{y:.1%}")
    figure.update_yaxes(range=[0, 1.08], tickformat=".0%")
    st.plotly_chart(tidy(figure, 330), config=CHART, key="compare_readouts",
                    alt="Test accuracy of each stage's linear probe, of the model, and of the majority class")
    st.caption(f"Accuracy on {facts['images']['test']:,} test images. {facts['protocol']} {facts['paper']}.")
