"""A preset of the distillation form: fills in the fields for what is at hand."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import streamlit as st

from kd.errors import UsageError
from kd.experiments.estimate import TRAINED
from kd.experiments.plan import student_rate, teacher_rate
from kd.experiments.presets import PRESETS, distillation_settings, suggested
from pages.parts.shared import fields
from pages.parts.shared.dataset_info import dataset_info
from pages.parts.shared.fields import key

RATES = {"teacher_learning_rate": teacher_rate, "learning_rate": student_rate}
AS_STUDENT = ("teacher_epochs", "teacher_batch_size", "teacher_views")  # empty: as many as the student
PRETRAINED_ONLY = ("frozen_stages", "backbone_rate")  # settings of pretrained weights


def choose_preset(values: Mapping[str, Any]) -> None:
    """A choice that fills in the other fields; each can be changed afterwards."""
    pretrained = values.get("teacher_weights", "none") != "none"
    usable = [name for name in PRESETS if PRESETS[name].teacher.keys().isdisjoint(PRETRAINED_ONLY) or pretrained]
    with suppress(UsageError):
        images = round(TRAINED * dataset_info(values["data"]).images)
        best = suggested(pretrained, images)
        place = key("preset")
        if st.session_state.get(place) not in (None, *usable):  # the weights it is for are no longer chosen
            st.session_state[place] = None
            _fill()
        chosen = st.selectbox("Preset", usable, index=None, key=place, on_change=_fill, placeholder="usual settings",
                              format_func=lambda name: PRESETS[name].title + (" (suggested)" if name == best else ""),
                              persist_state="session", help="Fills in the training settings of teacher, student and "
                              "control. Each stays free, here and under More settings.")
        if chosen:
            st.caption(PRESETS[chosen].summary)


def _fill() -> None:
    """Put a chosen preset's settings into the fields; those that no preset sets stay."""
    chosen = st.session_state.get(key("preset"))
    every = {name for preset in PRESETS for name in distillation_settings(preset)}
    settings = distillation_settings(chosen) if chosen else {}
    for name in every:
        usual = None if name in (*RATES, *AS_STUDENT) else fields.SETTINGS[name].default
        st.session_state[key(name)] = settings.get(name, usual)
