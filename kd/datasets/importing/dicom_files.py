"""DICOM files as images of patients: files, series and multi-frame, in class folders or with a table of labels.

Only pixels, geometry and a salted hash of the patient's id ever leave this module: an allow-list, not a list of what to
blank. Names of files and folders may hold a patient's name, so images get names of their own.
"""

import hashlib
import os
import secrets
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kd.datasets.base import SampleFiles, Skipped
from kd.datasets.decode import UnreadableImage
from kd.datasets.image_folder.source import workers
from kd.datasets.importing.dicom_display import Window, shown
from kd.datasets.importing.dicom_parsing import read_dataset
from kd.datasets.importing.dicom_pixels import frames_of, stored_values
from kd.datasets.importing.png import png
from kd.paths import Paths

ENDINGS = frozenset((".dcm", ".dicom", ".ima"))
SALT = ".import-salt"
_AHEAD = 8  # frames decoded ahead of the writer
_BLOCK = 32  # frames of one file that one thread decodes at a time
_OVERLAY = 0x60000010
_TAGS: list[str | int] = [
    "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "PhotometricInterpretation", "PlanarConfiguration", "PatientID", "StudyInstanceUID", "SeriesInstanceUID",
    "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "Modality", "BurnedInAnnotation", _OVERLAY]


@dataclass(frozen=True)
class Slice:
    """One frame of a file, not decoded. name: its own, made of the hashed patient and series. order: along the
    series."""

    path: Path
    relative: str
    frame: int
    patient: str
    name: str
    order: tuple[float, float, int]


@dataclass(frozen=True)
class Header:
    """What is kept of a file's header."""

    path: Path
    relative: str
    frames: int
    patient: str
    series: str
    position: float
    number: float
    modality: str
    burnt_in: bool
    overlay: bool
    lossy: bool


def is_dicom(path: Path) -> bool:
    """Whether a file is a DICOM file, by its ending or, where it has none of an image, by its mark at byte 128."""
    if path.suffix.lower() in ENDINGS:
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # a UID as a name ends in digits
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def salt_of(paths: Paths) -> bytes:
    """The secret that patient ids are hashed with, made once for each data folder: the same patient has the same hash
    in every import, and nobody can find ids by trying."""
    place = paths.data / SALT
    with suppress(FileNotFoundError):
        return place.read_bytes()
    place.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # of two imports at once, one makes it
    with suppress(FileExistsError), os.fdopen(os.open(place, flags, 0o600), "wb") as file:
        file.write(secrets.token_bytes(32))
    return place.read_bytes()


def hashed(text: str, salt: bytes) -> str:
    """Ten hexadecimal digits that stand for a patient or series."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), key=salt, digest_size=5).hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's remarks on values that break its rules: images are read all the same."""
    from pydicom import config

    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode = before


def read_headers(root: Path, files: Sequence[str], salt: bytes) -> tuple[list[Header], list[Skipped]]:
    """The headers of files below a folder, and those that have no image or cannot be read."""
    found: list[Header] = []
    bad: list[Skipped] = []
    with quiet():
        for relative in files:
            try:
                found.append(_header(root / relative, relative, salt))
            except UnreadableImage as error:
                bad.append(Skipped(relative, str(error)))
    return found, bad


def _header(path: Path, relative: str, salt: bytes) -> Header:
    try:
        data, size = read_dataset(path, header_only=True, tags=_TAGS)
    except OSError as error:
        raise UnreadableImage(f"the file cannot be opened ({error.strerror})") from error
    frames = frames_of(data, size)
    # PatientID may begin or end with a space in one file and not in the next of the same patient.
    patient = str(data.get("PatientID", "") or "").strip() or f"study {data.get('StudyInstanceUID', relative)}"
    return Header(path, relative, frames.count, hashed(patient, salt),
                  hashed(str(data.get("SeriesInstanceUID", "") or relative), salt), _position(data),
                  float(_number(data.get("InstanceNumber"))), str(data.get("Modality", "")),
                  str(data.get("BurnedInAnnotation", "")) == "YES", _OVERLAY in data, frames.lossy)


def _position(data: Any) -> float:
    """Where a slice lies along the normal of its plane, in mm; 0 where that is not said."""
    try:
        at, turn = data.ImagePositionPatient, data.ImageOrientationPatient
        normal = (turn[1] * turn[5] - turn[2] * turn[4], turn[2] * turn[3] - turn[0] * turn[5],
                  turn[0] * turn[4] - turn[1] * turn[3])
        return float(sum(one * other for one, other in zip(at, normal, strict=True)))
    except (AttributeError, TypeError, ValueError, IndexError):
        return 0.0


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0


def slices_of(headers: Sequence[Header]) -> list[Slice]:
    """Every frame, by series and along it, each with a name that tells no patient."""
    ordered = sorted(headers, key=lambda one: (one.patient, one.series, one.position, one.number, one.relative))
    counts: dict[str, int] = {}
    found = []
    for header in ordered:
        for frame in range(header.frames):
            key = f"{header.patient}-{header.series}"
            counts[key] = counts.get(key, 0) + 1
            found.append(Slice(header.path, header.relative, frame, header.patient, f"{key}-{counts[key]:04d}",
                               (header.position, header.number, frame)))
    return found


def read_slices(slices: Sequence[Slice], window: Window) -> Iterator[SampleFiles | Skipped]:
    """Each frame as a PNG, in order: files are decoded ahead in threads, frames of one file in blocks, so memory holds
    a few frames whatever the number of files."""
    blocks, held = _blocks(slices), threading.local()
    with quiet(), ThreadPoolExecutor(workers()) as pool:
        ahead = deque(pool.submit(_read_block, block, window, held) for block in islice(blocks, _AHEAD))
        try:
            while ahead:
                yield from ahead.popleft().result()
                ahead.extend(pool.submit(_read_block, block, window, held) for block in islice(blocks, 1))
        finally:
            for future in ahead:
                future.cancel()


def _blocks(slices: Sequence[Slice]) -> Iterator[list[Slice]]:
    """Neighbours of one file."""
    block: list[Slice] = []
    for one in slices:
        if block and (block[0].path != one.path or len(block) >= _BLOCK or one.frame <= block[-1].frame):
            yield block
            block = []
        block.append(one)
    if block:
        yield block


def _read_block(block: list[Slice], window: Window, held: threading.local) -> list[SampleFiles | Skipped]:
    """held: of each thread, the file that it read last: its next block is often of the same."""
    found: list[SampleFiles | Skipped] = []
    try:
        if getattr(held, "path", None) != block[0].path:
            held.path = held.file = None  # before the next is read, so that a thread's memory holds one file
            data, size = read_dataset(block[0].path)
            held.path, held.file = block[0].path, (data, frames_of(data, size))
        data, frames = held.file
        values = stored_values(data, frames, [one.frame for one in block])
        for one, stored in zip(block, values, strict=True):
            found.append(SampleFiles(png(shown(data, frames, stored, one.frame, window)), ".png"))
    except (UnreadableImage, OSError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        found += [Skipped(one.name, str(error) or type(error).__name__) for one in block[len(found):]]
    return found
