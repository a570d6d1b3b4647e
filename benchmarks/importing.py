"""Import of a DICOM series beside pydicom's `pixel_array` in a loop.

The series is made by this script: CT-like slices with noise, 512 px, 12 bits stored in 16, in class folders of
patients; `jpeg-colour` has 8 bits in colour, subsampled, as ultrasound does. Ours is the whole import (headers,
decoding, windowing, PNG files, the set's own files); the loop only decodes. Memory is the resident set, sampled every
20 ms in a process of its own, above that before the import.
"""

import argparse
import contextlib
import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SYNTAXES = {"native": "1.2.840.10008.1.2.1", "rle": "1.2.840.10008.1.2.5", "jpeg2000": "1.2.840.10008.1.2.4.90",
            "jpeg-ls": "1.2.840.10008.1.2.4.80", "jpeg-lossless": "1.2.840.10008.1.2.4.70",
            "jpeg-colour": "1.2.840.10008.1.2.4.50"}
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
    if syntax == "jpeg-colour":
        grey = (values >> 4).astype(np.uint8)
        colour = np.stack([grey, grey, 255 - grey], -1)
        return encapsulate([bytes(imagecodecs.jpeg8_encode(colour, level=90, subsampling="422"))])
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
        if syntax == "jpeg-colour":
            data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "YBR_FULL_422", 0
            data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        data.PixelData = pixels[number % len(pixels)]
        data["PixelData"].VR = "OW" if syntax == "native" else "OB"
        place = root / "ab"[patient % 2] / f"p{patient}" / f"{number:05d}.dcm"
        place.parent.mkdir(parents=True, exist_ok=True)
        data.save_as(place, enforce_file_format=True)


def loop(root: Path) -> tuple[float, float]:
    """Seconds of pydicom's `pixel_array` over all files, and seconds of processor time."""
    import pydicom

    start, busy = time.perf_counter(), time.process_time()
    for path in sorted(root.rglob("*.dcm")):
        assert pydicom.dcmread(path).pixel_array.size
    return time.perf_counter() - start, time.process_time() - busy


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
    """Seconds of a whole import, of the clock and of processors, its memory, and images written; in a process of its
    own."""
    import imagecodecs
    import pydicom

    from kd.datasets.importing.preview import ImportOptions
    from kd.datasets.importing.run import import_set
    from kd.paths import Paths

    assert pydicom.__version__ and imagecodecs.__version__, "idle is with the libraries loaded"
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        start, busy = time.perf_counter(), time.process_time()
        with peak_memory(memory):
            _, preview = import_set(str(root), "series", ImportOptions(), Paths(Path(place)))
        answers.put((time.perf_counter() - start, time.process_time() - busy, memory[0],
                     len(preview.images) - len(preview.skipped)))


def measure(syntax: str, files: int, side: int, repeats: int) -> None:
    """Print one row: both times, their ratio and the memory; medians over repeats, one after the other in turn."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "series"
        make_series(root, files, side, syntax)
        context = multiprocessing.get_context("spawn")
        loops, imports, memories = [], [], [0.0]
        for _ in range(repeats):
            loops.append(loop(root))
            answers = context.Queue()
            process = context.Process(target=ours, args=(root, answers))
            process.start()
            *seconds, memory, written = answers.get()
            process.join()
            assert written == files, f"{written} of {files} images were written"
            imports.append(seconds)
            memories.append(memory)
        shutil.rmtree(root)
    (reference, busy), (own, own_busy) = (tuple(map(statistics.median, zip(*times, strict=True)))
                                          for times in (loops, imports))
    print(f"| {syntax} | {reference:.1f} | {own:.1f} | {reference / own:.2f} | {busy:.1f} | {own_busy:.1f} | "
          f"{max(memories):.0f} |", flush=True)


def main() -> None:
    """Read the flags and measure."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--files", type=int, default=2000)
    flags.add_argument("--side", type=int, default=512)
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--syntax", nargs="+", choices=SYNTAXES, default=list(SYNTAXES))
    args = flags.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{args.files} files of {args.side}x{args.side}, 12 bits, {cores} cores; medians of {args.repeats} in turn\n")
    print("| transfer syntax | pydicom's loop, s | import, s | times faster | processor time: loop, s | import, s | "
          "memory above idle, MB |")
    print("|---|---|---|---|---|---|---|")
    for syntax in args.syntax:
        measure(syntax, args.files, args.side, args.repeats)


if __name__ == "__main__":
    main()
