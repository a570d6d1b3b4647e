"""The form of the prepared study of less data: few choices, and the rest as in every sweep."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from kd.experiments.data_efficiency import DEFAULTS, FRACTIONS, QUESTION, UNLABELLED_IMAGES, data_efficiency
from kd.experiments.data_efficiency import METHODS as USUAL
from kd.experiments.sweep import Sweep
from kd.methods import METHODS
from kd.spec import NONE
from pages.parts.distill import form as distill_form
from pages.parts.distill.form import MAIN
from pages.parts.shared import fields
from pages.parts.shared.fields import label
from pages.parts.sweep import form as sweep_form
from pages.parts.sweep.form import LISTED, SHARES

OWN = ("equal_steps", "unlabelled")  # have switches here


def form() -> Sweep | None:
    """Draw the form and return its sweep, its cells not yet checked; None when there is no such data set.

    Raises UsageError for an empty list, for fewer than two shares, and for a value that is no number or out of range.
    """
    st.markdown(f"**{QUESTION}** Control and students learn from smaller and smaller shares of the training "
                "images, under one teacher that may have seen them all.")
    values: dict[str, Any] = {}
    why, data = distill_form.data_card()
    values |= data
    with st.container(border=True):
        values |= distill_form.teacher_fields(values)
    with st.container(border=True):
        fixed, axes = sweep_form.student(values, "study", one=True)
    with st.container(border=True):
        methods, shares, unlabelled = _compared()
        fixed |= _training()
    with st.expander("More settings", icon=":material/tune:"):
        values |= distill_form.more_fields(values, (*MAIN, *LISTED, *OWN), methods)
    distill_form.require_paths({**values, **fixed})
    if not distill_form.there(values["data"]):
        return None
    given = distill_form.given({**values, **fixed})
    found = data_efficiency(given, methods, shares, unlabelled)
    with why:
        return sweep_form.sized(Sweep(found.base, {**found.axes, **axes}), given)


def _compared() -> tuple[Sequence[str], Sequence[float], Sequence[str]]:
    st.markdown("**Comparison**")
    known = [name for name in METHODS if METHODS[name].needs_teacher]
    methods = st.multiselect("Methods", known, default=[name for name in USUAL if name in known], key="study_methods",
                             persist_state="session", format_func=lambda name: METHODS[name].info.title, wrap=True,
                             help="All with the same control; each with its default settings.")
    shares = sweep_form.several("data_fraction", SHARES, FRACTIONS, float, place="study_shares",
                                help="Shares of the training images. Nested and stratified by class; a patient's "
                                     "images stay together.")
    rest = st.toggle("Also students with the other images unlabelled", value=True, key="study_unlabelled",
                     persist_state="session", help="A student of its own for each method that needs no labels: it "
                     "learns from the images that a share leaves out by its teacher's answers alone.")
    return methods, shares, UNLABELLED_IMAGES if rest else (NONE,)


def _training() -> dict[str, Any]:
    with st.grid(2, min_column_width=150):
        epochs = fields.number("epochs")
        st.session_state.setdefault("study_seeds", DEFAULTS["seeds"])
        seeds = st.number_input(label("seeds"), 1, 50, key="study_seeds", persist_state="session",
                                help=fields.SETTINGS["seeds"].metadata["help"])
    st.session_state.setdefault("study_equal_steps", DEFAULTS["equal_steps"] == 1)
    equal = st.toggle("Equal steps for every share", key="study_equal_steps", persist_state="session",
                      help="Smaller shares get more epochs. Off: equal epochs, so students with few images also train "
                           "for fewer steps.")
    return {"epochs": epochs, "seeds": seeds, "equal_steps": float(equal)}
