"""Heat maps as DICOM: valid by dciodvfy, the numbers and their place kept, nothing of the patient but on request."""

import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from lanes import slow
from made_runs import made_trio
from made_scans import dicom, placed, placed_frames, save
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
)

from kd.datasets.decode import decode
from kd.datasets.importing.dicom_files import quiet
from kd.datasets.importing.dicom_image import DicomImage, read_dicom
from kd.errors import UsageError
from kd.explainers import EXPLAINERS
from kd.export.dicom import maps
from kd.export.dicom.capture import LEAST
from kd.inspection.compare import Comparison, compare
from kd.inspection.explain import Explanation, explain
from kd.inspection.heat_map import HeatMap
from kd.paths import Paths
from kd.placement import Placement
from kd.store.runs import Store

SIDE = 32  # of the working copy
WIDE = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)  # wider than high: bars above and below
BITS12 = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 0,
          "WindowWidth": 900}
PRIVATE = ("Doe", "DOE", "Elsewhere", "House", "Roe", "A17", "S1", "19700101", "20200102", "101112", "ACME")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    runs = Store(Paths(tmp_path_factory.mktemp("store")))
    made_trio(runs)
    return runs


@pytest.fixture(scope="module")
def explanation(store: Store) -> Explanation:
    return explain(next(run for run in store if run.spec.depth == 3), np.zeros((SIDE, SIDE, 3), np.uint8), repeats=1)


def named(explanation: Explanation, scaled: np.ndarray, **facts: Any) -> maps.NamedMap:
    heat = HeatMap(2, "layers.2", scaled.astype(np.float32), scaled.astype(np.float32), False, **facts)
    return maps.NamedMap("map", explanation, heat)


def read(data: Dataset, tmp_path: Path, frame: int = 1) -> DicomImage:
    return read_dicom(save(data, tmp_path / "in.dcm"), frame)


def made(one: maps.NamedMap, data: Dataset, tmp_path: Path, frame: int = 1, **options: bool) -> Dataset:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    with quiet():  # some values of a source break DICOM's rules on purpose
        image = read(data, tmp_path, frame)
    [path] = maps.write([one], image, tmp_path / "out", **options)
    return dcmread(path)


def radiograph(values: np.ndarray = WIDE, **tags: Any) -> Dataset:
    """Names in many tags, but no place in the patient."""
    gone = dict.fromkeys(("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
                          "SliceThickness"))
    return placed(values, ComputedRadiographyImageStorage, Modality="CR", **{**gone, **tags})


SOURCES: dict[str, Any] = {
    "ct": lambda: placed(WIDE), "ct-12-bit-rescaled": lambda: placed(WIDE, **BITS12),
    "mr": lambda: placed(WIDE.T.copy(), MRImageStorage, Modality="MR"),
    "ct-monochrome1": lambda: placed(WIDE, PhotometricInterpretation="MONOCHROME1"),
    "enhanced-mr": lambda: placed_frames(np.stack([WIDE, WIDE + 1]), EnhancedMRImageStorage, Modality="MR"),
    "cr": radiograph, "cr-monochrome1": lambda: radiograph(PhotometricInterpretation="MONOCHROME1", **BITS12),
    "cr-left": lambda: radiograph(Laterality="L"),
    "ultrasound": lambda: dicom(np.zeros((24, 40, 3), np.uint8), SOPClassUID=UltrasoundImageStorage, Modality="US"),
    "cine": lambda: dicom(np.zeros((3, 24, 40), np.uint8), frames=3, SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1"),
    "ct-no-thickness": lambda: placed(WIDE, SliceThickness=None), "ct-no-place": lambda: dicom(WIDE)}
CAPTURED = ("cr", "cr-monochrome1", "cr-left", "ultrasound", "cine", "ct-no-thickness", "ct-no-place")


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_source_gives_a_valid_file(explanation: Explanation, tmp_path: Path, source: str, signed: bool,
                                                 keep: bool) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    one = named(explanation, np.linspace(0, 1, 12).reshape(3, 4), signed=signed)
    found = made(one, SOURCES[source](), tmp_path, keep_patient=keep)
    assert found.SOPClassUID == (SecondaryCaptureImageStorage if source in CAPTURED else SegmentationStorage)
    done = subprocess.run(["dciodvfy", tmp_path / "out" / "map.dcm"], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert said and not [line for line in said if line.startswith("Error")], "\n".join(said)


def stored_map(found: Dataset) -> np.ndarray:
    """The map [H, W] that a segmentation holds, asked for by the frame that it refers to."""
    opened, source = highdicom.seg.Segmentation.from_dataset(found), first_source(found)
    if "ReferencedFrameNumber" in source:
        values = opened.get_pixels_by_source_frame(source.ReferencedSOPInstanceUID, [source.ReferencedFrameNumber],
                                                   rescale_fractional=True)[0]
    else:
        values = opened.get_pixels_by_source_instance([source.ReferencedSOPInstanceUID], rescale_fractional=True)[0]
    return 0.5 + (values[..., 0] - values[..., 1]) / 2 if values.shape[-1] == 2 else values[..., 0]


def first_source(found: Dataset) -> Dataset:
    source: Dataset = found.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    return source


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (33, 33), (97, 11)])
def test_the_map_is_recovered_where_it_lay_on_the_image(explanation: Explanation, tmp_path: Path, signed: bool,
                                                       shape: tuple[int, int]) -> None:
    """A map that is a plane over the source's pixels stays one: the bars and the resizing are undone exactly."""
    box = read(placed(np.zeros(shape, np.uint16)), tmp_path).box(SIDE)
    rows = (np.arange(SIDE) + 0.5 - box[1]) / box[3]
    columns = (np.arange(SIDE) + 0.5 - box[0]) / box[2]
    plane = np.clip(0.1 + 0.3 * rows[:, None] + 0.5 * columns[None], 0, 1)
    found = made(named(explanation, plane, signed=signed), placed(np.zeros(shape, np.uint16)), tmp_path)
    wanted = (0.1 + 0.3 * ((np.arange(shape[0]) + 0.5) / shape[0])[:, None]
              + 0.5 * ((np.arange(shape[1]) + 0.5) / shape[1])[None])
    apart = np.abs(stored_map(found) - wanted)
    inner = apart[2:-2, 2:-2] if min(shape) > 11 else apart[6:-6, 2:-2]  # at the edge no cell lies further out
    assert inner.max() <= 1 / 255
    assert (found.Rows, found.Columns) == shape


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
@pytest.mark.parametrize("source", ["ct", "mr", "enhanced-mr", "cr"])
def test_a_hot_corner_stays_in_its_corner(explanation: Explanation, tmp_path: Path, source: str,
                                          corner: tuple[int, int]) -> None:
    data = SOURCES[source]()
    left, top, width, height = read(data, tmp_path).box(SIDE)
    heat = np.zeros((SIDE, SIDE))
    part = heat[top:top + height, left:left + width]
    part[slice(0, 6) if corner[0] == 0 else slice(-6, None), slice(0, 6) if corner[1] == 0 else slice(-6, None)] = 1
    found = made(named(explanation, heat), data, tmp_path, frame=2 if source == "enhanced-mr" else 1)
    if source == "cr":
        scale = LEAST / 40
        picture = found.pixel_array[:round(24 * scale), :LEAST].astype(float)
        warm = picture[..., 0] - picture[..., 2]  # the image is grey, the map's colours are not
    else:
        warm = stored_map(found)
    rows, columns = warm.shape
    quarters = {(down, across): warm[rows // 2 * down:rows // 2 * (down + 1),
                                     columns // 2 * across:columns // 2 * (across + 1)].mean()
                for down in (0, 1) for across in (0, 1)}
    hottest = max(quarters, key=lambda key: quarters[key])
    assert hottest == (corner[0] % 2, corner[1] % 2), quarters


def test_a_map_of_a_stage_lies_where_its_cells_look(explanation: Explanation, tmp_path: Path) -> None:
    """Its placement is kept: a single hot cell is centred at the centre of its receptive field."""
    heat = np.zeros((4, 4))
    heat[1, 1] = 1
    placement = Placement((0.0, 0.0), (0.25, 0.25))  # centred on 8 of 32 pixels, not on 12
    found = made(named(explanation, heat, placement=placement), placed(np.zeros((64, 64), np.uint16)), tmp_path)
    values = stored_map(found)
    centre = (values * (np.arange(64) + 0.5)[:, None]).sum() / values.sum()
    assert centre == pytest.approx(0.25 * 64, abs=0.1)


def test_a_segmentation_says_which_frame_where_and_by_whom(explanation: Explanation, tmp_path: Path) -> None:
    source = placed_frames(np.stack([WIDE, WIDE + 1]), EnhancedMRImageStorage, Modality="MR")
    found = made(named(explanation, np.eye(4)), source, tmp_path, frame=2)
    assert (found.StudyInstanceUID, found.FrameOfReferenceUID) == ("1.2.3", "1.2.3.5")
    assert found.SeriesInstanceUID != source.SeriesInstanceUID and found.Modality == "SEG"
    assert first_source(found).ReferencedFrameNumber == 2
    assert first_source(found).ReferencedSOPInstanceUID == source.SOPInstanceUID
    position = found.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    assert list(position) == [0, 0, 5] and found.NumberOfFrames == 1
    measures = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == 5 and "SpacingBetweenSlices" not in measures
    assert (found.SegmentationType, found.SegmentationFractionalType, found.MaximumFractionalValue) == (
        "FRACTIONAL", "PROBABILITY", 255)
    [segment] = found.SegmentSequence
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "KD Lens" and "grad-cam" in str(algorithm.AlgorithmParameters)
    assert segment.SegmentLabel == f"Grad-CAM for {explanation.classes[explanation.target]}"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Gradient-weighted class activation"
    assert "Not for clinical use" in segment.SegmentDescription and "clinical" in found.SeriesDescription


def test_a_capture_says_so_in_its_pixels_and_comments(explanation: Explanation, tmp_path: Path) -> None:
    source = radiograph()
    found = made(named(explanation, np.eye(4)), source, tmp_path)
    assert found.pixel_array.shape[1:] == (LEAST, 3)
    below = found.pixel_array[round(24 * LEAST / 40):]
    assert len(below) > 40 and (below > 200).any() and (below == 0).mean() > 0.5, "white words on black"
    assert "Not for clinical use" in found.ImageComments and "Not for clinical use" in found.DerivationDescription
    assert found.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert found.StudyInstanceUID == source.StudyInstanceUID and "FrameOfReferenceUID" not in found


def texts(data: Dataset) -> Iterator[str]:
    return (str(element.value) for element in data.iterall() if element.VR not in ("SQ", "OB", "OW"))


@pytest.mark.parametrize("source", ["ct", "enhanced-mr", "cr"])
def test_nothing_private_is_copied(explanation: Explanation, tmp_path: Path, source: str) -> None:
    found = made(named(explanation, np.eye(4)), SOURCES[source](), tmp_path)
    assert not [element.tag for element in found.iterall() if element.tag.is_private]
    content = (tmp_path / "out" / "map.dcm").read_bytes()
    assert not [word for word in PRIVATE if any(word in text for text in texts(found))]
    assert not [word for word in ("Doe", "Elsewhere", "House", "ACME") if word.encode() in content]
    assert not found.PatientName and not found.PatientID and not found.PatientBirthDate


@pytest.mark.parametrize("source", ["ct", "cr", "mr"])
def test_the_patient_is_copied_on_request_and_nothing_else(explanation: Explanation, tmp_path: Path,
                                                         source: str) -> None:
    name = {"ct": "Yamada^Tarou=山田^太郎", "cr": "Müller^Ä", "mr": "ANON17"}[source]
    data = SOURCES[source]()
    data.SpecificCharacterSet, data.PatientName, data.IssuerOfPatientID = "ISO_IR 192", name, "H"
    with quiet():
        data.PatientSex = "longer than a code may be"
    found = made(named(explanation, np.eye(4)), data, tmp_path, keep_patient=True)
    assert str(found.PatientName) == name and found.PatientID == "p" and found.IssuerOfPatientID == "H"
    assert (found.PatientBirthDate, found.StudyDate, found.AccessionNumber) == ("19700101", "20200102", "A17")
    assert not found.PatientSex
    assert not [element.tag for element in found.iterall() if element.tag.is_private]
    assert not [word for word in ("Elsewhere", "Roe", "ACME") if any(word in text for text in texts(found))]


def test_burnt_in_names_are_shown_by_nobody_unasked(explanation: Explanation, tmp_path: Path) -> None:
    one = named(explanation, np.eye(4))
    with pytest.raises(UsageError, match="burnt into its pixels"):
        made(one, radiograph(BurnedInAnnotation="YES"), tmp_path)
    assert made(one, radiograph(BurnedInAnnotation="YES"), tmp_path, keep_patient=True).BurnedInAnnotation == "YES"
    assert made(one, placed(WIDE, BurnedInAnnotation="YES"), tmp_path).Modality == "SEG", "which has no pixels of it"


@pytest.mark.parametrize("uid", ["", "no uid", "1..2"])
def test_a_file_without_uids_cannot_be_referred_to(explanation: Explanation, tmp_path: Path, uid: str) -> None:
    data = placed(WIDE)
    image = read(data, tmp_path)
    with quiet():
        image.header.StudyInstanceUID = uid
    with pytest.raises(UsageError, match="StudyInstanceUID"):
        list(maps.contents([named(explanation, np.eye(4))], image))


def test_nothing_is_overwritten(explanation: Explanation, tmp_path: Path) -> None:
    one, image = named(explanation, np.eye(4)), read(placed(WIDE), tmp_path)
    [path] = maps.write([one], image, tmp_path / "maps")
    before = path.read_bytes()
    with pytest.raises(UsageError, match="there already"):
        maps.write([maps.NamedMap("other", explanation, one.heat), one], image, tmp_path / "maps")
    assert path.read_bytes() == before and not (tmp_path / "maps" / "other.dcm").exists()


def test_long_and_odd_names_fit(explanation: Explanation, tmp_path: Path) -> None:
    odd = replace(explanation, classes=("a\\b\n" + "ü" * 200, *explanation.classes[1:]), target=0)
    for data in (placed(WIDE), radiograph()):
        found = made(named(odd, np.eye(4), signed=True), data, tmp_path)
        labels = [segment.SegmentLabel for segment in found.get("SegmentSequence", ())]
        assert all(len(label) <= 64 for label in labels)
        assert [label.rsplit(" ", 1)[1] for label in labels] == (["supports", "contradicts"] if labels else [])


QUICK = ("grad-cam", "sensitivity", "gradient-shap", "stage-maps")


@pytest.mark.parametrize("name", [*QUICK, *slow(*(name for name in EXPLAINERS if name not in (*QUICK, "mask")))])
def test_every_explainer_is_written(store: Store, tmp_path: Path, name: str) -> None:
    image = read(placed(WIDE), tmp_path)
    run = next(run for run in store if run.spec.depth == 3)
    found = explain(run, decode(image.png(), SIDE), explainer=name, stage=None, repeats=1)
    paths = maps.write(maps.maps_of(found), image, tmp_path / "maps")
    assert len(paths) == len(found.maps)
    for one, path in zip(found.maps, paths, strict=True):
        wanted = maps.on_pixels(one, image, SIDE)
        assert np.abs(stored_map(dcmread(path)) - wanted).max() <= 0.51 / 255


def test_a_comparison_gives_every_map_of_every_model_once(store: Store, tmp_path: Path) -> None:
    image = read(placed(WIDE), tmp_path)
    student = next(run for run in store if run.spec.teacher)
    comparison: Comparison = compare(store, student, decode(image.png(), SIDE), repeats=1, explainer="stage-maps")
    listed = maps.maps_of_comparison(comparison)
    paths = maps.write(listed, image, tmp_path / "maps")
    names = [path.stem for path in paths]
    assert len(set(names)) == len(names) and {name.split("_")[0] for name in names} == {"teacher", "control", "student"}
    found = [dcmread(path) for path in paths]
    assert len({one.SeriesInstanceUID for one in found}) == 1 and len({one.SOPInstanceUID for one in found}) == len(
        found)
    assert [int(one.InstanceNumber) for one in found] == list(range(1, len(found) + 1))
    assert found[0].SegmentSequence[0].SegmentLabel.startswith("teacher: ")
    assert CTImageStorage == found[0].SourceImageSequence[0].ReferencedSOPClassUID
    with zipfile.ZipFile(BytesIO(maps.archive(listed[:2], image))) as packed:
        assert packed.namelist() == [path.name for path in paths[:2]]
        assert dcmread(BytesIO(packed.read(paths[0].name))).PixelData == found[0].PixelData
