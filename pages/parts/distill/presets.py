"""A preset of the distillation form: fills in the fields for what is at hand."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import streamlit as st

from kd.datasets.splits import TRAINED
from kd.errors import UsageError
from kd.experiments.plan import student_rate, teacher_rate
from kd.experiments.presets import NO_PRESET, PRESETS, distillation_settings, suggested
from pages.parts.shared import fields
from pages.parts.shared.context import store
from pages.parts.shared.dataset_info import dataset_info
from pages.parts.shared.fields import key

RATES = {"teacher_learning_rate": teacher_rate, "learning_rate": student_rate}
AS_STUDENT = ("teacher_epochs", "teacher_batch_size", "teacher_views")  # empty: as many as the student
PRETRAINED_ONLY = ("frozen_stages", "backbone_rate")  # settings of pretrained weights
PLACES = {"student": key("student_kind")}  # of widgets that are not called as their setting
BY_HAND, STUDENT_BY_HAND = key("preset_by_hand"), key("student_by_hand")  # whether somebody chose it


def choose_preset(values: Mapping[str, Any]) -> None:
    """A choice that fills in the other fields, at first the one that fits; each field can be changed afterwards."""
    with suppress(UsageError):
        run = store().get(values["teacher"])
        pretrained = (run.spec.pretrained if run else values["teacher_weights"]) != "none"
        usable = [name for name in PRESETS if PRESETS[name].teacher.keys().isdisjoint(PRETRAINED_ONLY) or pretrained]
        images = max(round(TRAINED * dataset_info(values["data"]).images), 1)
        best, place = suggested(pretrained, images), key("preset")
        if not st.session_state.get(BY_HAND) or st.session_state.get(place) not in (NO_PRESET, *usable):
            st.session_state[place] = best
            st.session_state[BY_HAND] = False
        chosen = st.selectbox("Preset", (*usable, NO_PRESET), key=place, on_change=by_hand, args=(BY_HAND,),
                              format_func=lambda name: _title(name, best), persist_state="session",
                              help="Fills in the training settings of teacher, student and control. Each stays free, "
                              "here and under More settings.") or NO_PRESET
        if chosen in PRESETS:
            st.caption(PRESETS[chosen].summary)
        given = {"teacher": run.spec.model if run else values["teacher"]}
        if st.session_state.get(STUDENT_BY_HAND):
            given["student"] = st.session_state[PLACES["student"]]
        _fill(distillation_settings(chosen, given, images) if chosen in PRESETS else {})


def _title(name: str, best: str) -> str:
    if name == NO_PRESET:
        return "None"
    return PRESETS[name].title + (" (suggested)" if name == best else "")


def by_hand(place: str) -> None:
    """Note that somebody has chosen what a preset would fill in."""
    st.session_state[place] = True


def _fill(settings: Mapping[str, Any]) -> None:
    """Put a preset's settings into the fields that nobody has changed since the one before filled them."""
    before: dict[str, Any] = st.session_state.get(key("preset_settings"), {})
    for name in {*before, *settings}:
        usual = None if name in (*RATES, *AS_STUDENT) else fields.SETTINGS[name].default
        place, old = PLACES.get(name, key(name)), before.get(name, usual)
        if before != settings and st.session_state.get(place, old) == old:
            st.session_state[place] = settings.get(name, usual)
    st.session_state[key("preset_settings")] = dict(settings)
