"""A finished run's model as files to take away: exports, their checks, and downloads."""

import io
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from kd.errors import UsageError
from kd.export.report import FORMATS, INT8, ONNX, folder_of, load, timm_lines
from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.store.runs import FAILED, QUEUED, Run
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import percent, plain, size

TASK, POLL = "export", 1.0
TITLES = {"onnx": "ONNX", "safetensors": "safetensors", "torch": "torch"}
HELP = {"onnx": "One file with scaling, logits, every stage's features, class maps and mask, for onnxruntime and "
                "others; any batch.",
        "safetensors": "The weights by name. Those of a whole timm network load in plain timm.",
        "torch": "A program of torch.export, which runs with torch alone."}


def export_section(run: Run, classes: int) -> None:
    """Draw the form, the running export, and what has been exported."""
    with st.expander("Export: take the model away", icon=":material/file_export:"):
        state = tasks.status(run, TASK)
        if state.active:
            st.fragment(_exporting, run_every=POLL)(run)
            return
        if state.state == FAILED:
            st.error(state.reason or "The export failed; no reason was recorded.", icon=":material/error:")
        _form(run)
        for format in FORMATS:
            if found := _report(folder_of(run, format)):
                _exported(run, found)
        if lines := timm_lines(run.spec, classes):
            st.caption("The run's own weights in plain timm:")
            st.code(lines.replace("weights.safetensors", str(run.weights.name)), language="python")


def _form(run: Run) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        format = st.segmented_control("Format", FORMATS, default=ONNX, required=True, format_func=TITLES.__getitem__,
                                      key="export_format") or ONNX
        int8 = st.checkbox("8-bit form, too", key="export_int8", disabled=format != ONNX,
                           help="Quantised to integers, with its accuracy, its size, and the agreement of its class "
                                "maps with those of float32: accuracy can stay while the maps move.")
        if st.button("Export", icon=":material/file_export:", key="export_start"):
            with usage_errors():
                queue(store().paths).submit_task(run, TASK, {"format": format, "int8": int8 and format == ONNX})
                st.rerun()
    st.caption(HELP[format])


def _exporting(run: Run) -> None:
    state = tasks.status(run, TASK)
    if not state.active:
        st.rerun()
    st.progress(min(1.0, max(0.0, state.share)), text="**Export** · " + (
        state.phase or ("queued" if state.state == QUEUED else "starting")))
    st.button("Cancel", icon=":material/stop_circle:", on_click=_cancel, args=(run,), key="export_cancel")


def _cancel(run: Run) -> None:
    queue(store().paths).cancel(tasks.task(run, TASK))


def _report(folder: Path) -> dict[str, Any] | None:
    try:
        return load(folder)
    except UsageError:
        return None


def _exported(run: Run, found: dict[str, Any]) -> None:
    """One export: its file, its checks, and the download of its folder."""
    folder = folder_of(run, found["format"])
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{TITLES[found['format']]}** · {size(found['bytes'])} · {_checked(found)}")
            st.download_button("Download", partial(_zipped, folder), file_name=f"{run.id}-{found['format']}.zip",
                               mime="application/zip", icon=":material/download:", key=f"export_{found['format']}",
                               help="The model, a model card, and a short example that runs it without this program.")
        if found["int8"]:
            _quantised(found["int8"])


def _checked(found: dict[str, Any]) -> str:
    if not found["checked"]:
        return "the run's own weights"
    worst = max(one["greatest"] for one in found["checked"])
    batches = ", ".join(str(one["batch"]) for one in found["checked"])
    return f"as torch to {worst:.0e} of the largest value, for batches of {batches}"


def _quantised(int8: dict[str, Any]) -> None:
    arms = {"float32": int8["float32"], "8-bit": int8["int8"]}
    st.table([{"": name, "Accuracy": percent(arm["accuracy"]), "Size": size(arm["bytes"]),
               "ms an image": f"{1000 * arm['timing']['median']:.2f}"} for name, arm in arms.items()],
             border="horizontal", hide_index=True, alt="Accuracy, size and time of the float32 and the 8-bit form")
    if maps := int8["maps"]:
        worst = ", ".join(f"{plain(name)} ({value:.2f})" for name, value in maps["worst"][:3])
        st.caption(f"Class maps of both: rank correlation {maps['mean']:.2f} on average, {maps['low']:.2f} or less on "
                   f"one image in twenty; least on {worst}. Both name the same class for "
                   f"{percent(int8['same_class'])} of the test images. `{INT8}`")


def _zipped(folder: Path) -> bytes:
    """The files of an export as a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                file.write(path, path.name)
    return buffer.getvalue()
