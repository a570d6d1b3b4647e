"""A heat map as a FRACTIONAL segmentation: numbers in the patient's space, which a viewer lays over the image."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.datasets.importing.dicom_image import DicomImage
from kd.export.dicom.labels import NOTICE, SERIES, MapLabels, fit
from kd.export.dicom.reference import CHARACTERS, Plane, reference, say_whose
from kd.version import VERSION

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom import Dataset

LEVELS = 255  # a value is kept to within half of 1/255


def segmentation(image: DicomImage, plane: Plane, heat: NDArray[np.float32], labels: MapLabels, series: str,
                 number: int, keep_patient: bool) -> "Dataset":
    """The segmentation of one map [H, W] in 0..1 on the image's pixels.

    A signed map has two segments, what supports the class and what contradicts it, since its neutral 0.5 would cover
    the whole image: `0.5 + (first - second) / 2` gives it back. number: in the series, from 1.
    """
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    source = _placed(reference(image), image, plane)
    parts = (("supports", np.clip(2 * heat - 1, 0, 1)), ("contradicts", np.clip(1 - 2 * heat, 0, 1)))
    segments = parts if labels.signed else (("", heat),)
    found = hd.seg.Segmentation(
        [source], np.stack([values for _, values in segments], -1)[None].astype(np.float32), "FRACTIONAL",
        [_described(number, side, labels) for number, (side, _) in enumerate(segments, 1)], series_instance_uid=series,
        series_number=SERIES, sop_instance_uid=hd.UID(), instance_number=number, manufacturer="KD Lens",
        manufacturer_model_name="KD Lens", software_versions=VERSION, device_serial_number=fit(labels.run),
        fractional_type="PROBABILITY", max_fractional_value=LEVELS, content_description=fit(NOTICE),
        content_label="HEAT_MAP", series_description=fit(f"Heat maps. {NOTICE}"), omit_empty_frames=False,
        transfer_syntax_uid=ExplicitVRLittleEndian, specific_character_set=CHARACTERS)
    say_whose(found, image, keep_patient)
    # Of a single slice highdicom makes the spacing 1 mm up; the standard does not ask for it.
    del found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    if image.frames > 1:
        for group in found.PerFrameFunctionalGroupsSequence:
            for derivation in group.DerivationImageSequence:
                derivation.SourceImageSequence[0].ReferencedFrameNumber = image.frame
    return found


def _placed(source: "Dataset", image: DicomImage, plane: Plane) -> "Dataset":
    """The reference with the one frame's plane, in functional groups where its kind has them."""
    source.Rows, source.Columns = image.shape
    source.FrameOfReferenceUID, source.PositionReferenceIndicator = plane.frame_of_reference, None
    position: dict[str, Any] = {"ImagePositionPatient": plane.position}
    orientation: dict[str, Any] = {"ImageOrientationPatient": plane.orientation}
    measures: dict[str, Any] = {"PixelSpacing": plane.spacing, "SliceThickness": plane.thickness}
    if "PerFrameFunctionalGroupsSequence" not in image.header:
        for name, value in (position | orientation | measures).items():
            setattr(source, name, _decimal(value))
        return source
    source.NumberOfFrames = 1
    source.SharedFunctionalGroupsSequence = [_group(PlaneOrientationSequence=orientation,
                                                    PixelMeasuresSequence=measures)]
    source.PerFrameFunctionalGroupsSequence = [_group(PlanePositionSequence=position)]
    return source


def _group(**sequences: dict[str, Any]) -> "Dataset":
    from pydicom import Dataset

    group = Dataset()
    for name, attributes in sequences.items():
        item = Dataset()
        for attribute, value in attributes.items():
            setattr(item, attribute, _decimal(value))
        setattr(group, name, [item])
    return group


def _decimal(value: float | tuple[float, ...]) -> Any:
    """As text of at most 16 characters, which is all that DICOM's decimals may have."""
    from pydicom.valuerep import format_number_as_ds

    return list(map(format_number_as_ds, value)) if isinstance(value, tuple) else format_number_as_ds(value)


def _described(number: int, side: str, labels: MapLabels) -> "SegmentDescription":
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        "KD Lens", codes.DCM.ArtificialIntelligence, VERSION, parameters=dict(labels.parameters))
    described = hd.seg.SegmentDescription(
        number, fit(f"{labels.title}: {side}" if side else labels.title, keep=f": {side}" if side else ""),
        codes.SCT.SpatialAndRelationalConcept, getattr(codes.DCM, labels.concept), "AUTOMATIC", algorithm)
    described.SegmentDescription = fit(f"{labels.text} {NOTICE}", 1023, NOTICE)
    return described
