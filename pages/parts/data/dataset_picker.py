"""Which data set, at which size: the controls of the data page and their place in the address."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import streamlit as st

from kd import datasets
from kd.datasets import phantoms
from kd.datasets.phantoms import PHANTOMS, PhantomOptions
from kd.errors import UsageError
from kd.paths import Paths
from pages.parts.data import uploads
from pages.parts.shared.format import ending
from pages.parts.shared.typed_paths import require_allowed

LINK = "data_link"  # the address as this page last wrote it: any other comes from a link or the back button
SET, SIZE, OPTION, PATH, ANOTHER = "data_set", "data_size", "data_option_", "data_path", "data_another"
SIZES = (28, 64, 96, 128, 160, 224, 256, 384, 512)
DEFAULT_SIZE = 96


def choose(paths: Paths) -> tuple[str, int] | None:
    """Draw the controls; the canonical reference and the working size in pixels. Raises UsageError for a bad one."""
    _follow_link()
    titles = {entry.reference: _title(entry) for entry in datasets.available(paths)}
    wanted = st.session_state.setdefault(SET, next(iter(PHANTOMS)))
    options = list(titles) if wanted in titles or not wanted else [*titles, wanted]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("Data set", options, key=SET, persist_state="session", width=380,
                              format_func=lambda reference: titles.get(reference) or ending(reference, 46))
        st.session_state.setdefault(SIZE, DEFAULT_SIZE)
        size = st.selectbox("Working size", _sizes(), key=SIZE, persist_state="session", width=140,
                            format_func=lambda side: f"{side} px",
                            help="Every image is fitted into a square of this side, with black bars where it is not "
                                 "square.")
        with st.popover("Open…", icon=":material/folder_open:", key=ANOTHER, on_change="rerun"):
            _another(paths)
    if chosen is None:
        return None
    require_allowed(chosen)
    reference = datasets.resolve(f"{chosen}:{_phantom(chosen)}" if chosen in PHANTOMS else chosen, paths)
    _write_link(reference, int(size))
    return reference, int(size)


def _title(entry: datasets.DatasetEntry) -> str:
    return entry.title if entry.kind == datasets.PHANTOM else f"{entry.title} ({entry.kind})"


def _sizes() -> list[int]:
    requested = st.session_state.get(SIZE, DEFAULT_SIZE)
    return sorted({*SIZES, requested})


def _follow_link() -> None:
    """Take set and size from the address, unless this page wrote it itself."""
    link = st.query_params.to_dict()
    if link == st.session_state.get(LINK):
        return
    st.session_state[LINK] = link
    st.session_state[ANOTHER] = False
    if link.get("size", "").isdecimal() and 28 <= int(link["size"]) <= 512:
        st.session_state[SIZE] = int(link["size"])
    if link.get("data"):
        show(link["data"])


def show(reference: str) -> None:
    """Make this set the chosen one; takes effect where the controls are not drawn yet. Raises UsageError."""
    name = reference.partition(":")[0].strip()
    if name in PHANTOMS:
        _, options = phantoms.parse_reference(reference)
        for item in fields(PhantomOptions):
            st.session_state[f"{OPTION}{item.name}"] = getattr(options, item.name)
        reference = name
    st.session_state[SET] = reference


def _write_link(reference: str, size: int) -> None:
    link = {"data": reference, **({"size": str(size)} if size != DEFAULT_SIZE else {})}
    if st.query_params.to_dict() != link:
        st.query_params.from_dict(link)
    st.session_state[LINK] = link


def _phantom(name: str) -> str:
    """The options of a phantom, as they stand in a reference."""
    for item in fields(PhantomOptions):
        st.session_state.setdefault(f"{OPTION}{item.name}", item.default)
    if st.session_state[f"{OPTION}shortcut"] not in ("", *PHANTOMS[name].classes):
        st.session_state[f"{OPTION}shortcut"] = ""  # a class of the phantom shown before
    with st.form("phantom"), st.container(horizontal=True, vertical_alignment="bottom"):
        values = {item.name: _option(item, name) for item in fields(PhantomOptions)}
        st.form_submit_button("Draw", icon=":material/draw:")
    return ",".join(f"{key}={value}" for key, value in values.items() if value != "")


def _option(item: Any, name: str) -> Any:
    """One control, from the option's own type, bounds and help."""
    meta, key, label = item.metadata, f"{OPTION}{item.name}", item.name.capitalize()
    if item.name == "shortcut":
        return st.selectbox(label, ["", *PHANTOMS[name].classes], key=key, help=meta["help"], width=150,
                            format_func=lambda word: word or "none", persist_state="session")
    if isinstance(item.default, float):
        return st.slider(label, float(meta["low"]), float(meta["high"]), key=key, step=0.05, help=meta["help"],
                         width=170, persist_state="session")
    return st.number_input(label, meta["low"], meta["high"], key=key, help=meta["help"], width=132,
                           step=100 if item.name == "count" else 1, persist_state="session")


def _another(paths: Paths) -> None:
    """A path on this machine, or an uploaded file."""
    with st.form("path", border=False, clear_on_submit=False):
        st.text_input("Path on this machine", key=PATH, placeholder="/data/my_set",
                      help="A folder with one folder per class (or train/ and test/ with those), a .zip of one, or a "
                           "MedMNIST .npz.")
        st.form_submit_button("Open", icon=":material/folder_open:", on_click=_open_path)
    with st.form("upload", border=False, clear_on_submit=True):
        file = st.file_uploader("Or a file of yours", type=[ending[1:] for ending in uploads.ENDINGS])
        if st.form_submit_button("Add", icon=":material/upload:"):
            if file is None:
                raise UsageError("Choose a .zip or .npz file first.")
            _switch(uploads.keep(file.name, file.getvalue(), paths))


def _open_path() -> None:
    if path := st.session_state[PATH].strip():
        st.session_state[LINK] = None
        st.query_params.from_dict({"data": path})


def _switch(path: Path) -> None:
    """Show a set that lies in the data folder now."""
    st.session_state[LINK] = None
    st.query_params.from_dict({"data": str(path)})
    st.rerun()
