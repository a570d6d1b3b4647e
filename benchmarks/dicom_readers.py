"""DICOM pixels as an import reads them, beside those of pydicom, SimpleITK and highdicom.

The files are those that come with pydicom for its tests, and a few made here of kinds that are not among them. Grey:
the values after rescale; colour: RGB, of more than 8 bits on the scale of 8. Each number is the largest difference of
any pixel of the first frame (of made files: of the frame that is named). SimpleITK is needed for nothing else: where it
is not installed, that is said.
"""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kd.datasets.decode import UnreadableImage
from kd.datasets.importing import dicom_files
from kd.datasets.importing.dicom_display import Window, rescaled, shown
from kd.datasets.importing.dicom_parsing import read_dataset
from kd.datasets.importing.dicom_pixels import Frames, frames_of, stored_values

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def made(root: Path) -> Iterator[tuple[Path, int]]:
    """Files of kinds that pydicom's test files do not have, with the frame to look at, from 0."""
    from pydicom.dataset import Dataset
    from pydicom.uid import RLELossless

    for kind in ("MONOCHROME1", "MONOCHROME2"):
        yield _saved(root / f"made {kind}.dcm", PhotometricInterpretation=kind), 0
    groups = []
    for slope in (1.0, 10.0):
        group, value = Dataset(), Dataset()
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = slope, -1024.0, "HU"
        group.PixelValueTransformationSequence = [value]
        groups.append(group)
    for frame in (0, 1):
        yield _saved(root / f"made rescale by frame, {frame + 1} of 2.dcm", NumberOfFrames=2,
                     PixelData=np.stack([RAMP, RAMP]).tobytes(), PerFrameFunctionalGroupsSequence=groups), frame
    overlaid = (RAMP + 0xF000).astype(np.uint16)
    yield _saved(root / "made overlay in the unused bits.dcm", PixelData=overlaid.tobytes()), 0
    colour = np.stack([RAMP << 4, RAMP[::-1] << 4, RAMP.T << 4], -1).astype(np.uint16)
    facts = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsStored": 16,
             "HighBit": 15, "PixelData": colour.tobytes()}
    yield _saved(root / "made colour of 16 bits.dcm", **facts), 0
    yield _saved(root / "made colour of 16 bits, RLE.dcm", compress=RLELossless, **facts), 0


def _saved(path: Path, compress: str = "", **tags: Any) -> Path:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    facts = {"PatientID": "p", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "Modality": "OT",
             "Rows": 64, "Columns": 64, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
             "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelData": RAMP.tobytes(), **tags}
    for name, value in facts.items():
        setattr(data, name, value)
    if compress:
        data.compress(compress)
    data.save_as(path, enforce_file_format=True)
    return path


def ours(path: Path, frame: int) -> tuple[np.ndarray, Frames]:
    """Our values of a frame, and its header. Raises UnreadableImage."""
    data, size = read_dataset(path)
    frames = frames_of(data, size)
    stored = next(iter(stored_values(data, frames, [frame])))
    if frames.samples == 1 and not frames.photometric.startswith("PALETTE"):
        return rescaled(data, stored, frame), frames
    return shown(data, frames, stored, frame, Window()), frames


def by_pydicom(path: Path, frame: int) -> np.ndarray:
    from pydicom import dcmread
    from pydicom.pixels import apply_color_lut, apply_rescale, pixel_array

    data = dcmread(path)
    values = pixel_array(data, index=frame)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        return _to_8_bits(apply_color_lut(values, data), 16)
    return apply_rescale(values, data) if values.ndim == 2 else _to_8_bits(values, data.BitsStored)


def by_simpleitk(path: Path, frame: int) -> np.ndarray:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    image = SimpleITK.ReadImage(str(path))
    values = np.asarray(SimpleITK.GetArrayFromImage(image))[frame]
    return _to_8_bits(values, 8 * values.dtype.itemsize) if values.ndim == 3 else values


def by_highdicom(path: Path, frame: int) -> np.ndarray:
    import highdicom

    with contextlib.redirect_stderr(io.StringIO()):
        image = highdicom.imread(path)
        values = np.asarray(image.get_frame(frame + 1, apply_voi_transform=False, apply_icc_profile=False,
                                            apply_presentation_lut=True))
    return _to_8_bits(values, 16 if image.PhotometricInterpretation == "PALETTE COLOR" else image.BitsStored
                      ) if values.ndim == 3 else values


def _to_8_bits(values: np.ndarray, bits: int) -> np.ndarray:
    return values if values.dtype.itemsize == 1 else np.rint(values.astype(float) / (2**bits - 1) * 255)


READERS: dict[str, Callable[[Path, int], np.ndarray]] = {
    "pydicom": by_pydicom, "SimpleITK": by_simpleitk, "highdicom": by_highdicom}


def difference(own: np.ndarray | None, read: Callable[[Path, int], np.ndarray], path: Path, frame: int) -> str:
    """What a reader makes of a file, against our values."""
    try:
        other = read(path, frame)
    except ImportError:
        return "not installed"
    except Exception as error:  # whatever the reader says
        return f"not read ({type(error).__name__})"
    if own is None:
        return "read"
    if other.shape != own.shape:
        return f"shape {other.shape}"
    return f"{np.abs(own.astype(float) - other).max():g}"


def row(path: Path, frame: int) -> str:
    """One line of the table; empty for a file without an image."""
    own, said = None, []
    try:
        own, frames = ours(path, frame)
        said = [".".join(frames.syntax.split(".")[-2:]), frames.photometric, "read"]
    except UnreadableImage as bad:
        if "no image" in str(bad):
            return ""
        said = ["", "", f"not read: {str(bad)[:60]}"]
    others = [difference(own, read, path, frame) for read in READERS.values()]
    return f"| {' | '.join([path.name, *said, *others])} |"


def main() -> None:
    """Print a line a file."""
    import pydicom

    print(f"| file | syntax | photometric | ours | {' | '.join(READERS)} |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root, dicom_files.quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
        for path, frame in [*((path, 0) for path in samples), *made(Path(root))]:
            if line := row(path, frame):
                print(line, flush=True)


if __name__ == "__main__":
    main()
