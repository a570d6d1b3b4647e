"""What a map's file takes over from the header of its image: an allow-list, so nothing private can pass.

Study, series and instance UIDs are kept, since by them a viewer lays the map over its image. The attributes that tell
whose image it is are written empty unless they are asked for.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kd.datasets.importing.dicom_files import quiet
from kd.datasets.importing.dicom_image import DicomImage
from kd.errors import UsageError

if TYPE_CHECKING:
    from pydicom import Dataset

UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
           "AccessionNumber", "ReferringPhysicianName")
CHARACTERS = "ISO_IR 192"  # UTF-8


@dataclass(frozen=True)
class Plane:
    """Where a frame lies in its patient: position of the first pixel and directions of rows and columns, spacing of
    rows and columns and thickness, in mm."""

    frame_of_reference: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float


def require_writable(image: DicomImage, keep_patient: bool) -> None:
    """Raise UsageError for an image whose maps cannot be written as DICOM."""
    with quiet():
        missing = [name for name in UIDS if not _uid(image.header.get(name))]
        burnt_in = str(image.header.get("BurnedInAnnotation", "")) == "YES"
    if missing:
        raise UsageError(f"The DICOM file has no valid {missing[0]}, which its maps must refer to.")
    if burnt_in and not keep_patient and plane_of(image) is None:
        raise UsageError("The DICOM file says that names or marks are burnt into its pixels, and without a frame of "
                         "reference its map would show them. Keep the patient (--keep-patient) to allow that.")


def plane_of(image: DicomImage) -> Plane | None:
    """Where the frame lies; None where that is not said in full, or of a kind without planes, such as a radiograph."""
    with quiet():
        return _plane(image)


def _plane(image: DicomImage) -> Plane | None:
    from pydicom.uid import UID_dictionary

    header, uid = image.header, _uid(image.header.get("FrameOfReferenceUID"))
    if not uid or str(header.SOPClassUID) not in UID_dictionary or int(header.get("SamplesPerPixel", 1) or 1) != 1:
        return None
    position = _numbers(_place(image, "PlanePositionSequence").get("ImagePositionPatient"), 3)
    orientation = _numbers(_place(image, "PlaneOrientationSequence").get("ImageOrientationPatient"), 6)
    measures = _place(image, "PixelMeasuresSequence")
    spacing = _numbers(measures.get("PixelSpacing"), 2)
    thickness = _numbers(measures.get("SliceThickness"), 1) or _numbers(measures.get("SpacingBetweenSlices"), 1)
    if position and orientation and spacing and thickness and min(*spacing, *thickness) > 0:
        return Plane(uid, position, orientation, spacing, thickness[0])
    return None


def _place(image: DicomImage, sequence: str) -> "Dataset":
    """What holds an attribute of the frame: its functional group, that of all frames, or, of a single frame, the header
    itself."""
    from pydicom import Dataset

    per_frame = image.header.get("PerFrameFunctionalGroupsSequence") or ()
    groups = [*per_frame[image.frame - 1:image.frame], *(image.header.get("SharedFunctionalGroupsSequence") or ())]
    found = [group[sequence].value[0] for group in groups if group.get(sequence)]
    return found[0] if found else image.header if image.frames == 1 else Dataset()


def reference(image: DicomImage) -> "Dataset":
    """A header with nothing but the image's UIDs; whose it is, is empty."""
    from pydicom import Dataset

    found = Dataset()
    with quiet():
        for name in UIDS:
            setattr(found, name, str(image.header[name].value))
    for name in PATIENT:
        setattr(found, name, None)
    return found


def say_whose(found: "Dataset", image: DicomImage, keep_patient: bool) -> None:
    """Give a map's file the attributes of patient and study, where that is asked for; else they are empty."""
    with quiet():
        for name in PATIENT:
            setattr(found, name, None)
        for name in (*PATIENT, "IssuerOfPatientID") if keep_patient else ():
            _copy(image.header, found, name)


def _copy(header: "Dataset", found: "Dataset", name: str) -> None:
    """One attribute as text; one that breaks DICOM's rules stays empty, since a map's file must be valid."""
    from pydicom import DataElement, config

    if name not in header or header[name].VM != 1:
        return
    element = header[name]
    try:
        found.add(DataElement(element.tag, element.VR, str(element.value), validation_mode=config.RAISE))
    except (ValueError, TypeError):
        return


def _uid(value: Any) -> str:
    from pydicom.uid import UID

    uid = UID(str(value or ""), validation_mode=0)
    return str(uid) if uid.is_valid else ""


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """As many finite numbers, or None."""
    try:
        found = tuple(map(float, value if hasattr(value, "__iter__") and not isinstance(value, str) else (value,)))
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and np.isfinite(found).all() else None
