"""The form of a distillation: every choice with its meaning, the few that matter first."""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kd import datasets, models
from kd.datasets import DataRef
from kd.errors import UsageError
from kd.experiments.plan import MASK_NET_FIELDS, DistillSpec
from kd.experiments.sweep import Sweep
from kd.experiments.working_size import with_sizes
from kd.methods import METHODS, check
from kd.models.timm_info import timm_info
from kd.store.runs import FINISHED, Run
from pages.parts.distill.presets import (
    AS_STUDENT,
    PLACES,
    PRETRAINED_ONLY,
    RATES,
    STUDENT_BY_HAND,
    by_hand,
    choose_preset,
)
from pages.parts.shared import fields
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.dataset_info import dataset_info
from pages.parts.shared.fields import choice, key, knob, number, optional, slider
from pages.parts.shared.format import ending, plain
from pages.parts.shared.run_warnings import score

Sized = TypeVar("Sized", DistillSpec, Sweep)
TRAIN, REUSE = ("Train one", "Use a finished run")
STUDENTS = {"plain": "Plain", "truncated": "Truncated", "timm": "timm model"}
STUDENT_HELP = {
    "plain": "A chain of convolutions, as in KD-FMV. Every layer is a stage with its own map.",
    "truncated": "The teacher's own first stages with a new classifier.",
    "timm": "Any timm model whose last features are a map.",
}
MAIN = ("data", "image_size", "teacher", "teacher_weights", "student", "student_weights", "student_size", "depth",
        "width", "method", "method_args", "epochs", "seeds")
WEIGHTS_OF = ("student", "teacher_weights", "student_weights")  # what the usual rates depend on
TEACHER_RECIPE = (*AS_STUDENT, "teacher_learning_rate", *PRETRAINED_ONLY)
OUT_OF_FOLD = ("soft_targets", "folds")
MASK = ("mask_area", "mask_target")  # settings of the mask that matter most


def form() -> DistillSpec | None:
    """Draw the form and return its settings, not yet checked; None when it has shown that there is no such data set.

    Raises UsageError for a path that is missing.
    """
    values: dict[str, Any] = {}
    why, data = data_card()
    values |= data
    for draw in (teacher_fields, _student, _method):
        with st.container(border=True):
            values |= draw(values)
            if draw is teacher_fields:
                choose_preset(values)
    with st.expander("More settings", icon=":material/tune:"):
        values |= _fine(values)
        values |= more_fields(values, (*MAIN, *MASK_NET_FIELDS), (values["method"],))
    require_paths(values)
    if not there(values["data"]):
        return None
    chosen = given(values)
    with why:
        return sized(lambda about: with_sizes(DistillSpec(**chosen), chosen, store(), about), values["data"])


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that somebody has chosen: an empty size is recommended."""
    return {name: value for name, value in values.items() if value is not None}


def sized(recommend: Callable[[DataRef], tuple[Sized, str]], data: str) -> Sized:
    """What is asked for, with the recommended sizes, and a line that says why. Seconds, the first time."""
    with st.spinner("Estimating the time"):
        found, reason = recommend(dataset_info(data))
    if reason:
        st.caption(f"Working size {reason}")
    return found


def require_paths(values: Mapping[str, Any]) -> None:
    """Raise UsageError where weights or unlabelled images shall come from a path and it is missing."""
    for name in ("teacher_weights", "student_weights", "unlabelled"):
        if values.get(name) == "":
            raise UsageError(f"{fields.label(name)}: type the path, or choose another source.")


def there(data: str) -> bool:
    """Whether there is such a data set."""
    try:
        return bool(dataset_info(data))
    except UsageError:
        return False


def data_card() -> tuple[DeltaGenerator, dict[str, Any]]:
    """Data set and working size in a card, and the place below them where `sized` says why."""
    with st.container(border=True):
        values = _data_fields()
        return st.container(), values


def _data_fields() -> dict[str, Any]:
    found = {entry.reference: entry.title for entry in datasets.available(store().paths)}
    chosen = st.session_state.setdefault(key("data"), DistillSpec().data)
    options = [*found, *([chosen] if chosen and chosen not in found else [])]
    left, right = st.columns([5, 3])
    data = left.selectbox("Data set", options, key=key("data"), accept_new_options=True,
                          format_func=lambda name: found.get(name) or ending(name, 30), persist_state="session",
                          filter_mode="contains",
                          help="Choose one, or type a path: a class folder, a zip of one, or a MedMNIST .npz. Phantoms "
                               "take options, as in phantom-brain:count=400,difficulty=0.3") or DistillSpec().data
    with right:
        size = optional("image_size", "auto")
    with usage_errors():
        about = dataset_info(data)
        st.caption(f"{about.images:,} images in {len(about.classes)} classes: "
                   f"{plain(', '.join(about.classes))}")
    return {"data": data, "image_size": size}


def teacher_fields(values: dict[str, Any]) -> dict[str, Any]:
    """A model to train first, or a finished run."""
    st.markdown("**Teacher**")
    ready = _ready(values["data"])
    way = TRAIN
    if ready:
        way = st.segmented_control("Teacher", (TRAIN, REUSE), default=TRAIN, required=True, key=key("teacher_way"),
                                   label_visibility="collapsed", persist_state="session")
    if way == REUSE and ready:
        by_id = {run.id: run for run in ready}
        run_id = st.selectbox("Finished run", list(by_id), format_func=lambda one: _run_label(by_id[one]),
                              key=key("teacher_run"), persist_state="session",
                              help="It is used unchanged, with its own data set and image size.")
        return {"teacher": run_id, "image_size": None}
    left, right = st.columns(2)
    with left:
        teacher = backbone("teacher", DistillSpec().teacher)
    with right:
        start = fields.weights("teacher_weights")
    return {"teacher": teacher, "teacher_weights": start}


def _ready(data: str) -> list[Run]:
    """Finished runs of this data set that learnt from the labels, latest first."""
    try:
        wanted = dataset_info(data).fingerprint
    except UsageError:
        return []
    return [run for run in store() if not (run.spec.teacher or run.spec.fold) and run.spec.data_fingerprint == wanted
            and run.status == FINISHED]


def _run_label(run: Run) -> str:
    return f"{run.spec.model_label} · {score(run)} · {run.spec.image_size} px · {run.id[-4:]}"


def backbone(name: str, default: str) -> str:
    """One of timm's models whose last features are a map."""
    place = f"distil_{name}_model"
    st.session_state.setdefault(place, default)
    found = st.selectbox("timm model", list(_sizes()), key=place, filter_mode="contains", persist_state="session",
                         help="Type a part of a name to search all timm models whose last features are a map: nearly "
                              "all convolutional ones, and transformers without a class token.") or default
    if sizes := _sizes().get(found):
        st.caption(f"{found} takes images of {', '.join(map(str, sizes))} px only.")
    return found


@st.cache_data(show_spinner=False)
def _sizes() -> dict[str, tuple[int, ...]]:
    """The image sizes that each model takes, empty where it takes any."""
    return {entry.name: entry.sizes for entry in models.search("")}


def _student(values: dict[str, Any]) -> dict[str, Any]:
    st.markdown("**Student**")
    st.session_state.setdefault(PLACES["student"], "plain")
    kind = st.segmented_control("Student", list(STUDENTS), required=True, key=PLACES["student"],
                                format_func=STUDENTS.__getitem__, label_visibility="collapsed",
                                persist_state="session", on_change=by_hand, args=(STUDENT_BY_HAND,)) or "plain"
    st.caption(STUDENT_HELP[kind])
    left, right = st.columns(2)
    with left:
        found: dict[str, Any] = {"student": kind}
        if kind == "timm":
            found["student"] = f"timm:{backbone('student', 'mobilenetv3_small_050')}"
        else:
            found["depth"] = slider("depth", stages(values["teacher"]) if kind == "truncated" else None)
        found["student_size"] = student_size(values)
    with right:
        if kind == "plain":
            return {**found, "width": number("width")}
        own = ("teacher",) if kind == "truncated" else ()
        return {**found, "student_weights": fields.weights("student_weights", own)}


def student_size(values: Mapping[str, Any]) -> int | None:
    """The side to which students downsample their images."""
    return optional("student_size", "auto" if values["image_size"] is None else "working size")


def stages(teacher: str) -> int | None:
    """How many stages a truncated student can keep of this teacher (a model or a run); None where that is unknown."""
    runs = store()
    with suppress(UsageError):
        info = timm_info(runs[teacher].spec.model if teacher in runs else teacher)
        return len(info.outputs) - info.stem
    return None


def _method(values: dict[str, Any]) -> dict[str, Any]:
    st.markdown("**Distillation**")
    known = [name for name in METHODS if METHODS[name].needs_teacher]
    name = st.selectbox("Method", known, format_func=lambda one: METHODS[one].info.title, key=key("method"),
                        persist_state="session", help=DistillSpec.__dataclass_fields__["method"].metadata["help"])
    facts = METHODS[name].info
    st.caption(f"{facts.summary} ({facts.paper})")
    if caveat := check(name, _classes(values["data"])):
        st.warning(caveat, icon=":material/warning:")
    with st.grid(3, min_column_width=140):
        masks = {field: _setting(field) for field in MASK if METHODS[name].needs_mask_net}
        args = _knobs(name)
        epochs, seeds = number("epochs"), number("seeds")
    return {"method": name, "method_args": args, "epochs": epochs, "seeds": seeds, **masks}


def _knobs(method: str, fine: bool = False) -> dict[str, float]:
    """The method's own settings; fine: the advanced ones instead."""
    return {name: knob(method, name, about) for name, about in METHODS[method].info.hyperparameters.items()
            if about.advanced == fine}


def _fine(values: dict[str, Any]) -> dict[str, Any]:
    """The rest of what is the method's: its fine settings, and the explainer that it trains."""
    method = METHODS[values["method"]]
    if not method.needs_mask_net and not any(one.advanced for one in method.info.hyperparameters.values()):
        return {}
    st.caption(method.info.title)
    with st.grid(3, min_column_width=150):
        explainer = {name: _setting(name) for name in MASK_NET_FIELDS if method.needs_mask_net and name not in MASK}
        args = {**values["method_args"], **_knobs(values["method"], fine=True)}
    return {"method_args": args, **explainer}


def _classes(data: str) -> int:
    """How many classes a data set has; 0 where there is none, which `data_card` reports."""
    with suppress(UsageError):
        return len(dataset_info(data).classes)
    return 0


def more_fields(values: dict[str, Any], placed: Collection[str] = MAIN,
                methods: Collection[str] = ()) -> dict[str, Any]:
    """Every setting that has no place above, so that a new one has a field the day it is made. methods: those chosen;
    the mask network's settings appear where one of them trains one, those of out-of-fold soft targets where one can
    have them."""
    idle = set(TEACHER_RECIPE if values["teacher"] in store() else ())
    if values.get("teacher_weights", "none") == "none":
        idle.update(PRETRAINED_ONLY)
    if not any(METHODS[name].needs_mask_net for name in methods):
        idle.update(MASK_NET_FIELDS)
    if not any(METHODS[name].needs_logits_only() for name in methods):
        idle.update(OUT_OF_FOLD)
    rest = [name for name in fields.SETTINGS if name not in placed and name not in idle]
    found = {}
    for title, part in (("Teacher", True), ("Training", False)):
        if names := [name for name in rest if _is_teachers(name) is part]:
            st.caption(title)
            with st.grid(3, min_column_width=150):
                found |= {name: _setting(name, values) for name in names}
    return found


def _is_teachers(name: str) -> bool:
    return name.startswith("teacher_") or name in (*TEACHER_RECIPE, "normalisation")


def _setting(name: str, values: Mapping[str, Any] | None = None) -> Any:
    if name in RATES:
        known = {key: value for key, value in (values or {}).items() if key in WEIGHTS_OF}
        return fields.rate(name, RATES[name](DistillSpec(**known)))
    if name in AS_STUDENT:
        typed = fields.optional(name, "the student's", step=1)
        return fields.SETTINGS[name].default if typed is None else typed
    if name == "unlabelled":
        return fields.unlabelled()
    if name == "frozen_stages":
        return _frozen_stages((values or {})["teacher"])
    return choice(name) if fields.SETTINGS[name].metadata["choices"] else number(name)


def _frozen_stages(teacher: str) -> int:
    """Up to which of its stages a pretrained teacher stays as it is."""
    with suppress(UsageError):
        info = timm_info(teacher)
        names = [*(output.stage.name for output in info.outputs[:-1]), info.last.name]
        labels = {0: "none", -1: "all but the last", **{count: f"up to {name}" for count, name in enumerate(names, 1)}}
        place = key("frozen_stages")
        if st.session_state.setdefault(place, 0) not in labels:
            st.session_state[place] = 0
        return st.selectbox(fields.label("frozen_stages"), list(labels), key=place, format_func=labels.__getitem__,
                            help=fields.SETTINGS["frozen_stages"].metadata["help"], persist_state="session") or 0
    return 0
