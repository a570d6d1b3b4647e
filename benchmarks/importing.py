"""Import of a DICOM series beside pydicom's `pixel_array` in a loop, and the images shown beside those of other
readers.

The series is made by this script: CT-like slices with noise, 512 px, 12 bits stored in 16, in class folders of
patients. Ours is the whole import (headers, decoding, windowing, PNG files, the set's own files); the loop only
decodes. Memory is the resident set, sampled every 20 ms in a process of its own, above that before the import.

`--readers` instead compares pixels on the test files that come with pydicom: stored values with pydicom, shown values
with SimpleITK and highdicom where they are installed (they are not needed for anything else).
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SYNTAXES = {"native": "1.2.840.10008.1.2.1", "rle": "1.2.840.10008.1.2.5", "jpeg2000": "1.2.840.10008.1.2.4.90",
            "jpeg-ls": "1.2.840.10008.1.2.4.80", "jpeg-lossless": "1.2.840.10008.1.2.4.70"}
DISTINCT = 16  # slices that are encoded; the series repeats them


def slice_of(number: int, side: int) -> np.ndarray:
    """A body-like disc with noise, 12 bits."""
    noise = np.random.default_rng(number)
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    body = (rows**2 + columns**2 < 0.2) * 1000.0
    return np.clip(body + 40 * np.sin(30 * rows + number) + noise.normal(24, 12, (side, side)), 0,
    4095).astype(np.uint16)


def encoded(syntax: str, values: np.ndarray) -> bytes:
    """Pixel data of one frame in a transfer syntax."""
    if syntax == "native":
        return values.tobytes()
    import imagecodecs
    from pydicom.encaps import encapsulate

    if syntax == "rle":
        return _rle(values)
    encode = {"jpeg2000": lambda one: imagecodecs.jpeg2k_encode(one, level=0, codecformat="j2k", reversible=True),
              "jpeg-ls": imagecodecs.jpegls_encode,
              "jpeg-lossless": lambda one: imagecodecs.ljpeg_encode(one, bitspersample=16)}[syntax]
    return encapsulate([bytes(encode(values))])


def _rle(values: np.ndarray) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.Rows, data.Columns, data.SamplesPerPixel, data.PixelRepresentation = *values.shape, 1, 0
    data.PhotometricInterpretation, data.BitsAllocated, data.BitsStored, data.HighBit = "MONOCHROME2", 16, 12, 11
    data.SOPClassUID, data.SOPInstanceUID, data.PixelData = "1.2", "1.2.3", values.tobytes()
    data.compress(RLELossless, generate_instance_uid=False)
    return bytes(data.PixelData)


def make_series(root: Path, files: int, side: int, syntax: str, frames_a_patient: int = 50) -> None:
    """The files of the series, in `<class>/<patient>/`."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, generate_uid

    pixels = [encoded(syntax, slice_of(number, side)) for number in range(min(DISTINCT, files))]
    for number in range(files):
        patient = number // frames_a_patient
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        data.PatientID, data.SeriesInstanceUID, data.Modality = f"p{patient}", f"1.2.3.{patient}", "CT"
        data.Rows = data.Columns = side
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
        data.RescaleSlope, data.RescaleIntercept, data.WindowCenter, data.WindowWidth = 1, -1024, 40, 400
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        data.PixelData = pixels[number % len(pixels)]
        data["PixelData"].VR = "OW" if syntax == "native" else "OB"
        place = root / "ab"[patient % 2] / f"p{patient}" / f"{number:05d}.dcm"
        place.parent.mkdir(parents=True, exist_ok=True)
        data.save_as(place, enforce_file_format=True)


def loop(root: Path) -> float:
    """Seconds of pydicom's `pixel_array` over all files."""
    import pydicom

    start = time.perf_counter()
    for path in sorted(root.rglob("*.dcm")):
        assert pydicom.dcmread(path).pixel_array.size
    return time.perf_counter() - start


@contextlib.contextmanager
def peak_memory(found: list[float]) -> Iterator[None]:
    """Appends the highest resident set of this process within the block, above that before it, in MB."""
    import psutil

    process, done = psutil.Process(), threading.Event()
    before = highest = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.02):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        found.append((highest - before) / 2**20)


def ours(root: Path, answers: Any) -> None:
    """Seconds and memory of a whole import, and images written; in a process of its own."""
    import imagecodecs
    import pydicom

    from kd.datasets.importing.preview import ImportOptions
    from kd.datasets.importing.run import import_set
    from kd.paths import Paths

    assert pydicom.__version__ and imagecodecs.__version__, "idle is with the libraries loaded"
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        with peak_memory(memory):
            _, preview = import_set(str(root), "series", ImportOptions(), Paths(Path(place)))
        answers.put((time.perf_counter() - start, memory[0], len(preview.images) - len(preview.skipped)))


def measure(syntax: str, files: int, side: int, repeats: int) -> None:
    """Print one row: both times, their ratio and the memory; medians over repeats, one after the other in turn."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "series"
        make_series(root, files, side, syntax)
        context = multiprocessing.get_context("spawn")
        loops, imports, memories = [], [], []
        for _ in range(repeats):
            loops.append(loop(root))
            answers = context.Queue()
            process = context.Process(target=ours, args=(root, answers))
            process.start()
            seconds, memory, written = answers.get()
            process.join()
            assert written == files, f"{written} of {files} images were written"
            imports.append(seconds)
            memories.append(memory)
        shutil.rmtree(root)
    reference, own = statistics.median(loops), statistics.median(imports)
    print(f"| {syntax} | {reference:.1f} | {own:.1f} | {reference / own:.2f} | {max(memories):.0f} |", flush=True)


def compare_readers() -> None:
    """Print, for each test file of pydicom with an image, how far our pixels are from those of other readers."""
    import pydicom

    from kd.datasets.decode import UnreadableImage
    from kd.datasets.importing import dicom_files
    from kd.datasets.importing.dicom_display import Window, shown
    from kd.datasets.importing.dicom_pixels import frames_of, read_dataset, stored_values

    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    print("| file | syntax | photometric | stored, against pydicom | shown, against SimpleITK | stored, highdicom |")
    print("|---|---|---|---|---|---|")
    with dicom_files._quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(folder.glob("*.dcm")):
            try:
                data, size = read_dataset(path)
                frames = frames_of(data, size)
                stored = next(iter(stored_values(data, frames, [0])))
                image = shown(data, frames, stored, 0, Window())
            except UnreadableImage as bad:
                if "no image" not in str(bad):
                    print(f"| {path.name} | | | not read: {str(bad)[:60]} | {_outcome(_simpleitk, path)} | |")
                continue
            row = [path.name, ".".join(frames.syntax.split(".")[-2:]), frames.photometric,
                   _difference(stored, _pydicom, data, frames), _inverted(image, frames, _simpleitk, path),
                   _difference(stored, _highdicom, path, frames)]
            print("| " + " | ".join(row) + " |", flush=True)


def _pydicom(data: Any, frames: Any) -> np.ndarray:
    found = data.pixel_array
    return np.asarray(found[0] if frames.count > 1 else found)


def _highdicom(path: Path, frames: Any) -> np.ndarray:
    import highdicom

    with contextlib.redirect_stderr(io.StringIO()):
        return np.asarray(highdicom.imread(path).get_stored_frame(1))


def _simpleitk(path: Path) -> np.ndarray:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))[0]


def _outcome(read: Any, path: Path) -> str:
    try:
        read(path)
    except ImportError:
        return "not installed"
    except Exception as error:  # whatever the reader says of a broken file
        return f"not read either ({type(error).__name__})"
    return "read"


def _difference(own: np.ndarray, read: Any, source: Any, frames: Any) -> str:
    try:
        other = read(source, frames)
    except ImportError:
        return "not installed"
    except Exception as error:  # whatever the reader says
        return f"not read ({type(error).__name__})"
    if other.shape != own.shape:
        return f"shape {other.shape}"
    return f"{np.abs(own.astype(float) - other).max():g}"


def _inverted(image: np.ndarray, frames: Any, read: Any, path: Path) -> str:
    """The correlation of what is shown with what the reader gives: 1 for the same polarity."""
    try:
        other = read(path).astype(float)
    except ImportError:
        return "not installed"
    except Exception as error:  # whatever the reader says
        return f"not read ({type(error).__name__})"
    if other.shape != image.shape:
        return f"shape {other.shape}"
    if image.std() == 0 or other.std() == 0:
        return "constant"
    return f"r {np.corrcoef(image.ravel().astype(float), other.ravel())[0, 1]:.3f}"


def main() -> None:
    """Read the flags and measure."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--files", type=int, default=2000)
    flags.add_argument("--side", type=int, default=512)
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--syntax", nargs="+", choices=SYNTAXES, default=list(SYNTAXES))
    flags.add_argument("--readers", action="store_true", help="compare pixels instead of times")
    args = flags.parse_args()
    if args.readers:
        compare_readers()
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{args.files} files of {args.side}x{args.side}, 12 bits, {cores} cores; medians of {args.repeats} in turn\n")
    print("| transfer syntax | pydicom's loop, s | import, s | times faster | memory above idle, MB |")
    print("|---|---|---|---|---|")
    for syntax in args.syntax:
        measure(syntax, args.files, args.side, args.repeats)


if __name__ == "__main__":
    main()
