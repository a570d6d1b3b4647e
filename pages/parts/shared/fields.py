"""Form fields read off a dataclass: label, help, range and choices are the setting's own."""

from dataclasses import fields
from typing import Any

import streamlit as st

from kd.experiments.plan import DistillSpec
from kd.spec import NONE, REST
from pages.parts.shared.typed_paths import require_allowed

SETTINGS: dict[str, Any] = {item.name: item for item in fields(DistillSpec)}
LABELS = {"data": "Data set", "image_size": "Working size (px)",
          "student_size": "Input size (px)", "mask_net_depth": "Mask network depth",
          "mask_net_width": "Mask network width", "mask_fill": "Mask fill",
          "mask_area": "Mask area", "mask_target": "Mask target", "unlabelled": "Unlabelled images"}
WORDS = {"mean": "mean training image", "blur": "the image, blurred", "sensitivity": "teacher's sensitivity",
         "outlines": "training outlines", "teacher": "the teacher's own", "out-of-fold": "out-of-fold, label on top",
         "out-of-fold-uncorrected": "out-of-fold, uncorrected"}  # labels of choices


def key(name: str) -> str:
    """Where a setting's widget keeps its value."""
    return f"distil_{name}"


def label(name: str) -> str:
    """`batch_size` as `Batch size`."""
    return LABELS.get(name, name.replace("_", " ").capitalize())


def number(name: str, high: float | None = None, help: str | None = None) -> Any:
    """A whole or fractional number within the setting's range."""
    item = SETTINGS[name]
    kind = type(item.default)
    low, most = item.metadata["low"], high or item.metadata["high"]
    _default(name, item.default)
    return st.number_input(label(name), kind(low), kind(most), step=kind(1) if kind is int else 0.05, key=key(name),
                           help=help or item.metadata["help"], persist_state="session",
                           format=None if kind is int else "%g")


def optional(name: str, placeholder: str, step: int = 32) -> Any:
    """As `number`, but empty until somebody types: None stands for what the placeholder says."""
    item = SETTINGS[name]
    return st.number_input(label(name), item.metadata["low"], item.metadata["high"], value=None, step=step,
                           key=key(name), placeholder=placeholder, help=item.metadata["help"], persist_state="session")


def rate(name: str, usual: float) -> float:
    """A learning rate, empty until somebody types: 0 stands for the usual one, which the placeholder shows."""
    item = SETTINGS[name]
    found = st.number_input(label(name), item.metadata["low"], item.metadata["high"], value=None, step=1e-4,
                            key=key(name), format="%g", placeholder=f"{usual:g}", help=item.metadata["help"],
                            persist_state="session")
    return found or 0.0


def slider(name: str, high: float | None = None) -> Any:
    """As `number`, dragged."""
    item = SETTINGS[name]
    kind = type(item.default)
    low, most = kind(item.metadata["low"]), kind(high or item.metadata["high"])
    _default(name, item.default)
    st.session_state[key(name)] = min(max(st.session_state[key(name)], low), most)
    if low == most:
        st.caption(f"{label(name)}: {low} is the only value.")
        return low
    return st.slider(label(name), low, most, key=key(name), help=item.metadata["help"], persist_state="session")


def choice(name: str) -> Any:
    """One of the setting's choices."""
    item = SETTINGS[name]
    return st.selectbox(label(name), item.metadata["choices"], index=item.metadata["choices"].index(item.default),
                        key=key(name), help=item.metadata["help"], persist_state="session",
                        format_func=lambda one: WORDS.get(one, one))


def knob(method: str, name: str, facts: Any) -> float:
    """A method's own setting (kd.methods.Knob)."""
    place = f"distil_{method}_{name}"
    st.session_state.setdefault(place, facts.default)
    return st.number_input(label(name), float(facts.low), float(facts.high), step=_step(facts), key=place,
                           help=facts.help, format="%g", persist_state="session")


def _step(facts: Any) -> float:
    """Of a knob's buttons: whole where a count is meant, fine where the default is small."""
    if facts.low >= 1:
        return 1.0
    if facts.high > 1:
        return 0.5
    return 0.01 if 0 < facts.default < 0.05 else 0.05


def weights(name: str, extra: tuple[str, ...] = (), what: str = "weights") -> str:
    """Starting weights: a choice, and a path where it is a file; empty while the path is missing."""
    item = SETTINGS[name]
    words = {"none": "Random", "hub": "timm's (needs internet access)", "file": "A local file",
             "teacher": "The trained teacher's"}
    source = st.selectbox(label(name), ("none", "hub", *extra, "file"), format_func=words.__getitem__, key=key(name),
                          help=item.metadata["help"], persist_state="session")
    if source != "file":
        return source or "none"
    path = st.text_input(f"File of the {what}", key=f"{key(name)}_file", placeholder="/path/to/model.safetensors",
                         persist_state="session", help="A path on the machine where this program runs.")
    return _allowed(path)


def unlabelled() -> str:
    """Images without labels: a choice, and a path where it is a folder; empty while the path is missing."""
    words = {NONE: "None", REST: "The training images left out", "folder": "A folder of images"}
    source = st.selectbox(label("unlabelled"), list(words), format_func=words.__getitem__, key=key("unlabelled"),
                          help=SETTINGS["unlabelled"].metadata["help"], persist_state="session")
    if source != "folder":
        return source or NONE
    path = st.text_input("Folder of unlabelled images", key=f"{key('unlabelled')}_folder", persist_state="session",
                         placeholder="/path/to/images", help="A path on the machine where this program runs: a folder "
                         "of images, or a zip of one.")
    return _allowed(path)


def _allowed(path: str | None) -> str:
    """A typed path that may be named; raises UsageError for another."""
    found = (path or "").strip()
    require_allowed(found)
    return found


def _default(name: str, value: Any) -> None:
    st.session_state.setdefault(key(name), value)
