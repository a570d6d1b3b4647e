"""Heat maps of a DICOM image as DICOM files: a segmentation where the image has a place in its patient, else a
secondary capture."""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd.datasets.importing.dicom_image import DicomImage
from kd.errors import UsageError
from kd.export.dicom.capture import capture
from kd.export.dicom.labels import labels_of
from kd.export.dicom.reference import plane_of, require_writable
from kd.export.dicom.segmentation import segmentation
from kd.inspection.compare import Comparison
from kd.inspection.explain import Explanation
from kd.inspection.heat_map import HeatMap
from kd.inspection.overlay import upsample
from kd.store.files import write_bytes

ENDING = ".dcm"


@dataclass(frozen=True, eq=False)
class NamedMap:
    """One map of an explanation. name: of its file, without an ending. role: of the model in a comparison."""

    name: str
    explanation: Explanation
    heat: HeatMap
    role: str = ""


def maps_of(explanation: Explanation, role: str = "") -> list[NamedMap]:
    """All maps of an explanation, named as in its npz file."""
    prefix = f"{role.replace(' ', '-')}_" if role else ""
    return [NamedMap(f"{prefix}{explanation.explainer}_{one.key}", explanation, one, role) for one in explanation.maps]


def maps_of_comparison(comparison: Comparison) -> list[NamedMap]:
    """All maps of every model of a comparison: its explainer's, sensitivity, stages and mask, each once."""
    every = [one for part in comparison.panels for each in part.explanations for one in maps_of(each, part.role)]
    return list({one.name: one for one in every}.values())


def on_pixels(heat: HeatMap, image: DicomImage, size: int) -> NDArray[np.float32]:
    """A map in 0..1 on the pixels of the image, [H, W], bilinear between the centres of its cells: without the bars and
    the resizing of the working copy, whose side `size` is."""
    return upsample(heat.scaled, image.shape, heat.laid.within(image.box(size), size))


def contents(maps: Sequence[NamedMap], image: DicomImage, keep_patient: bool = False) -> Iterator[tuple[str, bytes]]:
    """File name and content of every map, one new series in the image's study.

    keep_patient: copy name, id, birth date, sex and the study's identifiers, else they are empty. Raises UsageError as
    `require_writable`.
    """
    import highdicom as hd

    require_writable(image, keep_patient)
    plane, series = plane_of(image), str(hd.UID())
    for number, one in enumerate(maps, 1):
        heat = on_pixels(one.heat, image, one.explanation.image.shape[0])
        labels = labels_of(one.explanation, one.heat, one.role)
        made = (segmentation(image, plane, heat, labels, series, number, keep_patient) if plane
                else capture(image, heat, labels, series, number, keep_patient))
        buffer = BytesIO()
        made.save_as(buffer, enforce_file_format=True)
        yield f"{one.name}{ENDING}", buffer.getvalue()


def archive(maps: Sequence[NamedMap], image: DicomImage, keep_patient: bool = False) -> bytes:
    """The files of `contents` as a zip."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents(maps, image, keep_patient):
            file.writestr(name, content)
    return buffer.getvalue()


def write(maps: Sequence[NamedMap], image: DicomImage, folder: Path, keep_patient: bool = False) -> list[Path]:
    """The files, in this folder. Raises UsageError as `contents`, and where one of them is there already: nothing is
    overwritten."""
    paths = [folder / f"{one.name}{ENDING}" for one in maps]
    if taken := [path for path in paths if path.exists()]:
        raise UsageError(f"{taken[0]} is there already: name another folder. Nothing is overwritten.")
    for path, (_, content) in zip(paths, contents(maps, image, keep_patient), strict=True):
        write_bytes(path, content)
    return paths
