"""The 8-bit student: whether it still looks at the same place, and the images on which it least does."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kd.evaluation.eight_bit import PAIRS, difference, map_rows
from kd.evaluation.report import NUMBER, MetricRow, ModelReport
from kd.evaluation.row_words import between, figure, gap
from kd.export.report import ONNX
from kd.inspection.overlay import overlay
from kd.placement import Placement
from kd.roles import EIGHT_BIT, STUDENT
from kd.store.eight_bit import EightBit
from kd.store.runs import Run
from pages.parts.shared import links
from pages.parts.shared.context import store
from pages.parts.shared.dataset_info import opened
from pages.parts.shared.exporting import export_progress, start_export
from pages.parts.shared.format import code, percent, plain, unbroken
from pages.parts.shared.images import MAPS, colour_bar, enlarge, mosaic, png
from pages.parts.shared.originals import own


def eight_bit_section(student: Run, found: Mapping[str, ModelReport]) -> list[MetricRow]:
    """Draw it, or the way to one; returns its rows for the download."""
    if isinstance(student, EightBit):
        return []
    st.subheader("8-bit student", anchor=False)
    if EIGHT_BIT not in found:
        _offer(student)
        return []
    form = found[EIGHT_BIT].run
    assert isinstance(form, EightBit), "this role is that of an 8-bit form"
    change = difference(found[STUDENT], found[EIGHT_BIT])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"8-bit student − student: accuracy **{gap(change.value, change.low, change.high, change.unit)}**; "
                    f"the same class on {percent(form.figures['same_class'])} of the test images.", width="content")
        links.compare(student.id, "Compare both", beside=form.id)
        links.evaluate(form.id, "Evaluate its explanations")
    rows = map_rows(form)
    if not rows:
        st.caption("Its head is more than pooling and one linear layer, so that it has no class maps to compare.")
        return [change]
    _agreement(form)
    _worst(student, form)
    return [change, *rows]


def _offer(student: Run) -> None:
    """The button that makes one, or its progress."""
    if export_progress(student):
        return
    st.markdown("The student in 8-bit integers: smaller and faster. Accuracy can stay while its class maps move, so "
                "both are measured, on all test images.")
    if st.button("Quantise to 8 bits", icon=":material/compress:", key="evaluate_quantise"):
        start_export(student, ONNX, int8=True)


def _agreement(form: EightBit) -> None:
    maps = form.figures["maps"]
    st.table([_line(name, maps[pair]) for pair, name in PAIRS.items() if maps[pair]], border="horizontal",
             hide_index=True, alt="Agreement of class maps by pair of models")
    st.caption("Rank correlation of the class maps of the class that the student predicts, over the test images: mean "
               "with its 95 % bootstrap interval, and the value that one image in twenty does not reach. Baseline: the "
               "same two models' maps of different images. Forward passes above: of one image, with "
               f"all stages and class maps, in turn, with {form.figures['threads']} thread(s).")


def _line(name: str, one: Mapping[str, Any]) -> dict[str, str]:
    low, high = one["interval"]
    row = MetricRow("", name, "", one["mean"], low, high, unit=NUMBER)
    return {"Class maps of": name, "Mean": unbroken(between(row)), "5 % quantile": figure(one["low"], NUMBER),
            "Baseline": figure(one["chance"], NUMBER), "Images": f"{one['images']:,}"}


def _worst(student: Run, form: EightBit) -> None:
    """The images with the lowest agreement, each under both maps."""
    found, spec = form.maps, student.spec
    if not len(found.get("index", ())):
        return
    st.markdown("**Least agreement**: the student's class map left, the 8-bit student's right, each in its own "
                "range")
    data = opened(spec.data, spec.data_fingerprint, spec.image_size, store().paths.root)
    numbers = found["index"].tolist()
    images, cells = own(data, data.test, numbers), _cells(form)
    with st.grid("auto", min_column_width=300, gap="small"):
        for place, (number, image) in enumerate(zip(numbers, images, strict=True)):
            target, name = data.classes[int(found["classes"][place])], data.test.names[number]
            pair = [_under(enlarge(image), found[arm][place], cells) for arm in ("float32", "int8")]
            with st.container(border=True, gap="xsmall"):
                st.image(png(mosaic([pair])), width="stretch", output_format="PNG",
                         alt=f"Test image {name} under both class maps of {target}")
                agreement = figure(float(found["values"][place]), NUMBER)
                st.caption(f"{code(name)} · “{plain(target)}” · Spearman {agreement}")
                links.compare(student.id, image=str(number), beside=form.id, target=target)
    colour_bar(MAPS[0])


def _cells(form: EightBit) -> Placement | None:
    """Where the cells of its class maps lie."""
    last = list(form.details["stages"].values())[-1]["cells"]
    return Placement.from_json(last) if last else None


def _under(image: NDArray[np.uint8], values: NDArray[np.float32], cells: Placement | None) -> NDArray[np.uint8]:
    """The image under one map in the colours of its own range, which keep the order of its values."""
    low, span = float(values.min()), float(np.ptp(values))
    return overlay(image, (values - low) / span, placement=cells) if span else image
