"""Which image to compare on: one of the test set, or an upload that is never written to disk."""

import hashlib
from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kd.datasets.base import Dataset, Split
from kd.datasets.decode import decode, read_original
from kd.datasets.importing.dicom_image import DicomImage, is_dicom, read_dicom, window_of
from kd.store.predictions import ALL, CASES, load, select_cases
from kd.store.runs import Run
from pages.parts.shared.context import store
from pages.parts.shared.dataset_info import opened
from pages.parts.shared.format import code, plain
from pages.parts.shared.images import png
from pages.parts.shared.originals import MOST, THUMB, own

TEST, UPLOAD = SOURCES = ("Test image", "Upload")
PAGE = 12
ANY = "any class"


@dataclass(frozen=True, eq=False)
class Chosen:
    """An image [S, S, 3] as the models are given it, with what is known about it. shown: the same at its own
    resolution, fitted into a square alike. number: in the test set, None for an upload. dicom: what an uploaded DICOM
    file was read as. imported: whether it is a test image that came from a DICOM file, of which only pixels are kept.
    name: in its data set; empty for an upload.
    """

    image: NDArray[np.uint8]
    shown: NDArray[np.uint8]
    digest: str
    number: int | None = None
    truth: str | None = None
    mask: NDArray[np.uint8] | None = None
    dicom: DicomImage | None = None
    imported: bool = False
    name: str = ""


def pick_image(student: Run) -> Chosen | None:
    """The image chosen; None while there is nothing chosen. Raises UsageError for what cannot be opened."""
    st.session_state.setdefault("compare_source", TEST)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        source = st.segmented_control("Image", SOURCES, key="compare_source", required=True, persist_state="session")
        if source == TEST:
            data = opened(student.spec.data, student.spec.data_fingerprint, student.spec.image_size, store().paths.root)
            numbers = _some(student, data)
    return _test_image(data, *numbers) if source == TEST else _upload(student)


def _upload(student: Run) -> Chosen | None:
    file = st.file_uploader("An image of the same kind", key="compare_upload", max_upload_size=20,
                            type=["png", "jpg", "jpeg", "bmp", "gif", "tif", "tiff", "webp", "dcm", "dicom", "ima"],
                            help="An image file or a DICOM file. It stays in memory and is not saved.")
    if file is None:
        st.caption(f"Fitted into {student.spec.image_size} px with black bars, as the training images were.")
        return None
    content = file.getvalue()
    dicom = _dicom(content, student) if is_dicom(content) else None
    content = dicom.png() if dicom else content
    image = decode(content, student.spec.image_size)
    return Chosen(image, read_original(content, MOST), _digest(image), dicom=dicom)


def _dicom(content: bytes, student: Run) -> DicomImage:
    """A frame of a DICOM file, in the window that the student's images were imported with."""
    window = window_of(student.spec.data, store().paths) or "file"
    first = read_dicom(content, window=window)
    if first.frames == 1:
        return first
    frame = st.number_input("Frame", 1, first.frames, key="compare_frame", width=130)
    return first if frame == 1 else read_dicom(content, int(frame), window)


def _some(student: Run, data: Dataset) -> tuple[NDArray[np.int64], bool]:
    """The test images on offer: those that pass the filters, or all and True where none does."""
    with st.popover("Filter", icon=":material/filter_alt:", help="By true class, and by which model is right."):
        numbers = _filtered(student, data)
    none_left = not len(numbers)
    if none_left:
        numbers = np.arange(len(data.test))
    _thumbnails(data, numbers)
    return numbers, none_left


def _test_image(data: Dataset, numbers: NDArray[np.int64], none_left: bool) -> Chosen:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        return _chosen(data, numbers, none_left)


def _chosen(data: Dataset, numbers: NDArray[np.int64], none_left: bool) -> Chosen:
    number = _step(numbers)
    test = data.test
    truth = data.classes[test.labels[number]]
    place = f"{int(np.searchsorted(numbers, number)) + 1:,} of {len(numbers):,}"
    st.caption("No test image passes the filter, so all are offered." if none_left else
               f"{place} · true class: **{plain(truth)}** · {code(test.names[number])}", width="content")
    image = np.asarray(test.images[number])
    [shown] = own(data, test, [number], MOST)
    imported = window_of(data.reference, store().paths) is not None
    return Chosen(image, shown, _digest(image), number, truth, _mask(test, number), imported=imported,
                  name=test.names[number])


def _mask(test: Split, number: int) -> NDArray[np.uint8] | None:
    """The evidence of a test image, where it is known and there is any."""
    if test.evidence is None or (test.has_evidence is not None and not test.has_evidence[number]):
        return None
    mask = np.asarray(test.evidence[number])
    return mask if mask.any() else None


def _filtered(student: Run, data: Dataset) -> NDArray[np.int64]:
    """Numbers of the test images that pass both filters."""
    by_teacher, by_student = load(store()[student.spec.teacher]), load(student)
    both = by_teacher is not None and by_student is not None
    label = st.selectbox("True class", (ANY, *data.classes), key="compare_class", persist_state="session", width=190)
    case = st.selectbox("Predictions", CASES, key="compare_case", persist_state="session", disabled=not both, width=260,
                        help="Needs the test predictions of teacher and student, which exist once both have finished.")
    numbers = np.arange(len(data.test))
    if by_teacher is not None and by_student is not None and case in CASES and case != ALL:
        numbers = select_cases(case, by_teacher, by_student)
    if label in data.classes:
        numbers = numbers[data.test.labels[numbers] == data.classes.index(label)]
    return numbers


def _step(numbers: NDArray[np.int64]) -> int:
    """The image shown, with a way to the next and the previous one that pass the filters."""
    wanted = st.session_state.get("compare_image")
    place = int(np.searchsorted(numbers, wanted)) if isinstance(wanted, int) else 0
    place = min(place, len(numbers) - 1)
    number = int(numbers[place])
    if wanted != number:
        st.session_state["compare_image"] = number
    st.button("Previous", icon=":material/chevron_left:", shortcut="Left", disabled=place == 0,
              on_click=_go, args=(numbers[max(place - 1, 0)],))
    st.number_input("Number", 0, int(numbers[-1]), key="compare_image", width=130, persist_state="session",
                    help="In the test set; with a filter, the next one that passes it.")
    st.button("Next", icon=":material/chevron_right:", icon_position="right", shortcut="Right",
              disabled=place == len(numbers) - 1, on_click=_go, args=(numbers[min(place + 1, len(numbers) - 1)],))
    return number


def _go(number: int) -> None:
    st.session_state["compare_image"] = int(number)


def _thumbnails(data: Dataset, numbers: NDArray[np.int64]) -> None:
    with st.popover("Browse images", icon=":material/grid_view:"):
        pages = -(-len(numbers) // PAGE)
        page = st.pagination(pages, key="compare_page") if pages > 1 else 1
        first = (min(page, pages) - 1) * PAGE
        some = numbers[first:first + PAGE].tolist()
        with st.grid(columns=4, min_column_width=72, gap="xsmall"):
            for number, image in zip(some, own(data, data.test, some, THUMB), strict=True):
                with st.container(gap="xxsmall"):
                    label = data.classes[data.test.labels[number]]
                    st.image(png(image), width="stretch", output_format="PNG",
                             alt=f"{label}, image {number}")
                    st.button(str(number), key=f"thumb-{number}", type="tertiary", help=plain(label), width="stretch",
                              on_click=_go, args=(number,))


def _digest(image: NDArray[np.uint8]) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()
