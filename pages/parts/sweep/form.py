"""The form of a sweep: data and teacher as for one distillation, and lists for settings with several values."""

from collections.abc import Collection, Sequence
from typing import Any

import streamlit as st

from kd.errors import UsageError
from kd.experiments.plan import DistillSpec
from kd.experiments.sweep import TRIED, Sweep
from kd.experiments.working_size import sweep_with_sizes
from kd.methods import METHODS
from pages.parts.distill import form as distill_form
from pages.parts.distill.form import MAIN, STUDENT_HELP, STUDENTS
from pages.parts.shared import fields
from pages.parts.shared.context import store
from pages.parts.shared.fields import label

DEPTHS, WIDTHS, EPOCHS, SHARES = (3, 5, 7), (8, 16, 32), (10, 20, 50, 100), (0.1, 0.25, 0.5, 1.0)
LISTED = ("data_fraction",)  # has a list here, and a single field among a distillation's further settings
OWN_LIST = ("soft_targets",)  # likewise, but not in the study of less data


def form() -> Sweep | None:
    """Draw the form and return its sweep, its combinations not yet checked; None when there is no such data set.

    Raises UsageError for an empty list, and for a value that is no number or out of range.
    """
    values: dict[str, Any] = {}
    why, data = distill_form.data_card()
    values |= data
    with st.container(border=True):
        values |= distill_form.teacher_fields(values)
    with st.container(border=True):
        fixed, axes = student(values)
    with st.container(border=True):
        axes |= _method()
    with st.container(border=True):
        axes |= _recipe(values)
    with st.expander("More settings", icon=":material/tune:"):
        values |= distill_form.more_fields(values, (*MAIN, *LISTED, *OWN_LIST), axes["method"])
    distill_form.require_paths({**values, **fixed})
    if not distill_form.there(values["data"]):
        return None
    given = distill_form.given({**values, **fixed})
    with why:
        return sized(Sweep(DistillSpec(**given), axes), given)


def sized(wanted: Sweep, given: Collection[str]) -> Sweep:
    """The sweep with the recommended sizes where none is given, and a line that says why."""
    return distill_form.sized(lambda about: sweep_with_sizes(wanted, given, store(), about), wanted.base.data)


def student(values: dict[str, Any], place: str = "sweep", one: bool = False
            ) -> tuple[dict[str, Any], dict[str, Sequence[Any]]]:
    """What all students share, and the lists that make their shapes. place: where the widgets keep their values. one:
    propose a single shape."""
    st.markdown("**Student**" if one else "**Students**")
    kind = st.segmented_control("Student", list(STUDENTS), default="plain", required=True, key=f"{place}_student_kind",
                                format_func=STUDENTS.__getitem__, label_visibility="collapsed",
                                persist_state="session") or "plain"
    st.caption(STUDENT_HELP[kind])
    left, right = st.columns(2)
    axes: dict[str, Sequence[Any]] = {}
    with left:
        fixed: dict[str, Any] = {"student": kind}
        if kind == "timm":
            fixed["student"] = f"timm:{distill_form.backbone('student', 'mobilenetv3_small_050')}"
        else:
            axes["depth"] = _depths(kind, values, place, one)
        fixed["student_size"] = distill_form.student_size(values)
    with right:
        if kind == "plain":
            axes["width"] = several("width", WIDTHS, (DistillSpec().width,), place=f"{place}_width")
        else:
            own = ("teacher",) if kind == "truncated" else ()
            fixed["student_weights"] = fields.weights("student_weights", own)
    return fixed, axes


def _depths(kind: str, values: dict[str, Any], place: str, one: bool) -> Sequence[Any]:
    """Layers of plain students, or stages of truncated ones."""
    if kind == "plain":
        return several("depth", range(1, 13), (DistillSpec().depth,) if one else DEPTHS, place=f"{place}_depth")
    stages = distill_form.stages(values["teacher"]) or 5
    every = range(1, stages + 1)
    return several("depth", every, (stages,) if one else every, place=f"{place}_stages")


def _method() -> dict[str, Sequence[Any]]:
    """Methods, and every setting that one of them has."""
    st.markdown("**Distillation**")
    known = [name for name in METHODS if METHODS[name].needs_teacher]
    chosen = st.multiselect("Methods", known, default=["kd"], key="sweep_method", persist_state="session",
                            format_func=lambda name: METHODS[name].info.title, wrap=True,
                            help="Each with every value below that applies to it; other settings add no cells.")
    axes: dict[str, Sequence[Any]] = {"method": chosen}
    if any(METHODS[name].needs_logits_only() for name in chosen):
        axes |= _soft_targets()
    knobs: dict[str, list[str]] = {}
    for method in chosen:
        for name in METHODS[method].info.hyperparameters:
            knobs.setdefault(name, []).append(method)
    with st.grid(2, min_column_width=130):
        for name, methods in knobs.items():
            axes[name] = _knob(name, methods)
    return axes


def _soft_targets() -> dict[str, Sequence[str]]:
    """Whose answers are soft targets, for methods that need logits alone."""
    about = fields.SETTINGS["soft_targets"]
    options = about.metadata["choices"]
    return {"soft_targets": st.multiselect(label("soft_targets"), options, default=[about.default], wrap=True,
                                           key="sweep_soft_targets", persist_state="session",
                                           help=about.metadata["help"],
                                           format_func=lambda one: fields.WORDS.get(one, one))}


def _knob(name: str, methods: list[str]) -> Sequence[float]:
    """A method's own setting. Proposed: what KD-FMV tries, the methods' defaults, half and double of these."""
    facts = [METHODS[method].info.hyperparameters[name] for method in methods]
    defaults = {one.default for one in facts}
    proposed = {*TRIED.get(name, ()), *defaults, *(value * by for value in defaults for by in (0.5, 2))}
    low, high = min(one.low for one in facts), max(one.high for one in facts)
    meaning = "  \n".join(f"{METHODS[method].info.title}: {one.help} Default {one.default:g}."
                          for method, one in zip(methods, facts, strict=True))
    whose = "" if len(methods) > 1 or name in TRIED else f" ({methods[0]})"
    # Another set of methods has other defaults, so its choice is kept apart.
    place = f"sweep_{name}" if name in TRIED else f"sweep_{name}_{'_'.join(methods)}"
    return several(name, sorted(value for value in proposed if low <= value <= high),
                    TRIED.get(name, sorted(defaults)), float, help=meaning, whose=whose, place=place)


def _recipe(values: dict[str, Any]) -> dict[str, Sequence[Any]]:
    """Lists of what is not of the student or the method, and the seeds."""
    st.markdown("**Training**")
    with st.grid(3, min_column_width=150):
        values["seeds"] = fields.number("seeds")
        return {"epochs": several("epochs", EPOCHS, (DistillSpec().epochs,)),
                "data_fraction": several("data_fraction", SHARES, (1.0,), float)}


def several(name: str, proposed: Sequence[float], default: Sequence[float], kind: type = int, help: str = "",
             whose: str = "", place: str = "") -> Sequence[Any]:
    """A list of numbers: some of those proposed, or others typed in. Raises UsageError for what is no number."""
    place = place or f"sweep_{name}"
    st.session_state.setdefault(place, [f"{value:g}" for value in default])
    options = list(dict.fromkeys([*(f"{value:g}" for value in proposed), *st.session_state[place]]))
    texts = st.multiselect(label(name) + whose, options, key=place, accept_new_options=True, persist_state="session",
                           wrap=True,
                           help=help or fields.SETTINGS[name].metadata["help"], placeholder="choose or type")
    # A list that was typed or pasted as one is one.
    return list(dict.fromkeys(_number(name, part, kind) for text in texts for part in text.split(",") if part.strip()))


def _number(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{label(name)}: {text!r} is not a {'whole ' if kind is int else ''}number.") from None
