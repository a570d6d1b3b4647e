"""The address of exactly one view of the compare page: followed when it is opened, written as the view changes."""

import streamlit as st

from kd.store.eight_bit import run_or_form
from kd.store.runs import Run
from pages.parts.shared.context import store

MAPS, DECISION, CHANNELS = VIEWS = ("maps", "decision", "channels")
STAGE, WEIGHTED = LAYERS = ("stage", "weighted")
WRITTEN = "compare_link"  # the query string as the page last wrote it: any other comes from a link or the back button
LONGEST = 10  # digits of a number in an address
PLACE = "compare_place"  # the run and the test image that the address names
# Query parameter -> (state key, default). A link sets what it does not name to the default. Stages count from the end;
# 0 is the explainer's own.
CHOICES = {"target": ("compare_target", ""), "explainer": ("compare_explainer", "grad-cam"),
           "stage": ("compare_stage", 0), "view": ("compare_view", MAPS), "of": ("compare_of", "student"),
           "layers": ("compare_layers", STAGE), "channels": ("compare_channels_of", -1),
           "fields": ("compare_fields", False)}


def follow() -> None:
    """Take the view from the address where it is not the one that this page wrote itself.

    The widgets check what it names. Raises UsageError for a run that is not there.
    """
    link = st.query_params.to_dict()
    if link == st.session_state.get(WRITTEN):
        return
    st.session_state[WRITTEN] = link
    if run := link.get("run") or link.get("student"):
        st.session_state["compare_run"] = _student_of(run).id
        st.session_state["compare_beside"] = [other for other in link.get("beside", "").split(",") if other]
        for name, (key, plain) in CHOICES.items():
            st.session_state[key] = _value(link.get(name), plain)
    if link.get("image", "").isdecimal() and len(link["image"]) < LONGEST:
        st.session_state["compare_source"] = "Test image"
        st.session_state["compare_class"], st.session_state["compare_case"] = "any class", "all images"
        st.session_state["compare_image"] = int(link["image"])


def write(run: Run, image: int | None) -> None:
    """Keep the address at what is shown, to be shared or reloaded. image: in the test set; an upload has no address."""
    st.session_state[PLACE] = {"run": run.id, **({} if image is None else {"image": str(image)})}
    renew()


def renew() -> None:
    """As `write`, for a part of the page in which only a choice can have changed."""
    link = dict(st.session_state[PLACE])
    if beside := st.session_state.get("compare_beside"):
        link["beside"] = ",".join(beside)
    for name, (key, plain) in CHOICES.items():
        value = st.session_state.get(key, plain)
        if value is not None and value != plain:
            link[name] = "1" if value is True else str(value)
    st.session_state[WRITTEN] = link
    if st.query_params.to_dict() != link:
        st.query_params.from_dict(link)


def _value(text: str | None, plain: object) -> object:
    """The text as a value of the same kind as `plain`."""
    if text is None:
        return plain
    if isinstance(plain, bool):
        return text == "1"
    if isinstance(plain, int):
        return int(text) if text.removeprefix("-").isdecimal() else plain
    return text


def _student_of(run_id: str) -> Run:
    """The run, or the newest student of a teacher."""
    run = run_or_form(store(), run_id)
    pupils = (other for other in store() if other.spec.teacher == run.id and other.weights.exists())
    return run if run.spec.teacher else next(pupils, run)
