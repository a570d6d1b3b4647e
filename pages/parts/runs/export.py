"""A finished run's model as files to take away: exports, their checks, and downloads."""

import io
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from kd.export.report import FORMATS, INT8, ONNX, OPENVINO, by_openvino, exports, folder_of, timm_lines
from kd.store.runs import Run
from pages.parts.shared import links
from pages.parts.shared.exporting import export_progress, start_export
from pages.parts.shared.format import percent, size

TITLES = {"onnx": "ONNX", "safetensors": "safetensors", "torch": "torch"}
HELP = {"onnx": "One file with scaling, logits, every stage's features, class maps and mask, for onnxruntime and "
                "others; any batch.",
        "safetensors": "The weights by name. Those of a whole timm network load in plain timm.",
        "torch": "A program of torch.export, which runs with torch alone."}


def export_section(run: Run, classes: int) -> None:
    """Draw the form, the running export, and what has been exported."""
    with st.expander("Export: take the model away", icon=":material/file_export:"):
        if export_progress(run):
            return
        _form(run)
        for found in exports(run):
            _exported(run, found)
        if lines := timm_lines(run.spec, classes):
            st.caption("The run's own weights in plain timm:")
            st.code(lines.replace("weights.safetensors", str(run.weights.name)), language="python")


def _form(run: Run) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        format = st.segmented_control("Format", FORMATS, default=ONNX, required=True, format_func=TITLES.__getitem__,
                                      key="export_format") or ONNX
        int8 = st.checkbox("8-bit form, too", key="export_int8", disabled=format != ONNX,
                           help="Quantised to integers: a student of its own on Compare and Evaluate, with the "
                                "agreement of its class maps with float32's. Accuracy can stay while they move.")
        if st.button("Export", icon=":material/file_export:", key="export_start"):
            start_export(run, format, int8 and format == ONNX)
    st.caption(HELP[format])


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
            _quantised(run, found["int8"])


def _checked(found: dict[str, Any]) -> str:
    if not found["checked"]:
        return "the run's own weights"
    worst = max(one["greatest"] for one in found["checked"])
    batches = ", ".join(str(one["batch"]) for one in found["checked"])
    return f"as torch to {worst:.0e} of the largest value, for batches of {batches}"


def _quantised(run: Run, int8: dict[str, Any]) -> None:
    """The 8-bit form in a line; a student's whole figures are on the evaluate page."""
    one, other, maps = int8["float32"], int8["int8"], int8["maps"]["int8_float32"]
    words = (f"8-bit form, in brackets float32: accuracy {percent(other['accuracy'])} ({percent(one['accuracy'])}), "
             f"{size(other['bytes'])} ({size(one['bytes'])}), {_ms(other)} ({_ms(one)}) an image")
    if maps:
        words += f"; class maps agree with float32's by {maps['mean']:.2f}, 5 % of them by {maps['low']:.2f} or less"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{words}. `{INT8}`", width="content")
        if run.spec.teacher:
            links.evaluate(run.id)
    if found := by_openvino(int8):
        agree = f"; class maps agree with float32's by {found['maps']['mean']:.2f}, 5 % of them by " \
                f"{found['maps']['low']:.2f} or less" if found["maps"] else ""
        st.caption(f"Another one, by OpenVINO: accuracy {percent(found['accuracy'])}, {size(found['bytes'])}, "
                   f"{_ms(found)} an image{agree}. `{OPENVINO[0]}`")


def _ms(arm: dict[str, Any]) -> str:
    return f"{1000 * arm['timing']['median']:.2f} ms"


def _zipped(folder: Path) -> bytes:
    """The files of an export as a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                file.write(path, path.name)
    return buffer.getvalue()
