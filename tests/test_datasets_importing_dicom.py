"""DICOM: the stored values, the image shown, what is kept, and files that lie."""

import io
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from made_scans import dicom, dicom_set, save
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from kd.datasets import fingerprint, open_dataset
from kd.datasets.base import SampleFiles, Skipped
from kd.datasets.decode import UnreadableImage
from kd.datasets.importing import dicom_files, dicom_parsing, dicom_pixels
from kd.datasets.importing.dicom_display import Window, shown
from kd.datasets.importing.dicom_image import read_dicom
from kd.datasets.importing.dicom_parsing import read_dataset
from kd.datasets.importing.dicom_pixels import frames_of, stored_values
from kd.datasets.importing.png import packed_png, png
from kd.datasets.importing.preview import ImportOptions
from kd.datasets.importing.run import import_set
from kd.datasets.limits import LIMITS
from kd.datasets.named_sets import history_of
from kd.errors import UsageError
from kd.paths import Paths

SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with dicom_files.quiet():
        yield


def images(path: Path, window: str = "file") -> list[np.ndarray]:
    data, size = read_dataset(path)
    frames = frames_of(data, size)
    return [shown(data, frames, values, number, Window.of(window)) for number, values in
            enumerate(stored_values(data, frames))]


def image(tmp_path: Path, data: Dataset, window: str = "file") -> np.ndarray:
    return images(save(data, tmp_path / "x.dcm"), window)[0]


def test_monochrome1_is_turned_over_after_windowing(tmp_path: Path) -> None:
    plain, turned = (image(tmp_path, dicom(RAMP, PhotometricInterpretation=kind, WindowCenter=100, WindowWidth=100))
                     for kind in ("MONOCHROME2", "MONOCHROME1"))
    assert np.abs(plain.astype(int) + turned - 255).max() <= 1 and plain[0, 0] == 0 and turned[0, 0] == 255


def test_rescale_comes_before_the_window(tmp_path: Path) -> None:
    hounsfield = image(tmp_path, dicom(RAMP, RescaleSlope=2, RescaleIntercept=-100), "100,200")
    assert (hounsfield == 0).sum() == pytest.approx(50, abs=2) and (hounsfield == 255).sum() == pytest.approx(107,
    abs=2)


@pytest.mark.parametrize(("function", "middle"), [("LINEAR", 129), ("LINEAR_EXACT", 128), ("SIGMOID", 128)])
def test_each_window_function_is_the_standards(tmp_path: Path, function: str, middle: int) -> None:
    found = image(tmp_path, dicom(RAMP, WindowCenter=128, WindowWidth=100, VOILUTFunction=function))
    assert found[8, 0] == pytest.approx(middle, abs=1)
    assert (found[0, 0] == 0) is (function != "SIGMOID") or found[0, 0] < 5


def test_without_a_window_the_padding_does_not_count(tmp_path: Path) -> None:
    values = np.clip(RAMP, 100, 200)
    values[0] = 65535
    found = image(tmp_path, dicom(values, PixelPaddingValue=65535))
    assert found[1:].min() == 0 and found[1:].max() == 255 and len(np.unique(found[1:])) > 50


def enhanced(reverse: bool = False) -> Dataset:
    """Two frames with rescale and window of their own, one shared group beside them."""
    groups = []
    for slope, centre in ((1.0, 100.0), (10.0, 1000.0)):
        group, value, window = Dataset(), Dataset(), Dataset()
        value.RescaleSlope, value.RescaleIntercept = slope, 0.0
        window.WindowCenter, window.WindowWidth = centre, 2 * centre
        group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [value], [window]
        groups.append(group)
    return dicom(np.stack([RAMP, RAMP]), frames=2, PerFrameFunctionalGroupsSequence=groups[::-1] if reverse else groups)


@pytest.mark.parametrize("reverse", [False, True])
def test_rescale_and_window_are_those_of_each_frame(tmp_path: Path, reverse: bool) -> None:
    one, two = images(save(enhanced(reverse), tmp_path / "x.dcm"))
    assert np.abs(one.astype(int) - two).max() <= 2, "ten times the slope in ten times the window is the same image"
    assert one.min() == 0 and one.max() == 255


def test_only_the_stored_bits_count(tmp_path: Path) -> None:
    overlaid = (RAMP + 0xF000).astype(np.uint16)  # an overlay in the unused bits
    found = image(tmp_path, dicom(overlaid, BitsStored=12, HighBit=11))
    assert np.array_equal(found, image(tmp_path, dicom(RAMP)))
    signed = dicom((RAMP.astype(np.int16) - 128) & 0x0FFF, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert np.array_equal(image(tmp_path, signed), image(tmp_path, dicom(RAMP)))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_keeps_its_colours(tmp_path: Path, bits: int) -> None:
    tables = {}
    for colour, values in (("Red", np.arange(256)), ("Green", 255 - np.arange(256)), ("Blue", np.full(256, 7))):
        kind = np.uint16 if bits == 16 else np.uint8
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        tables[f"{colour}PaletteColorLookupTableData"] = (values * (257 if bits == 16 else 1)).astype(kind).tobytes()
    data = dicom(RAMP.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR", **tables)
    assert image(tmp_path, data)[1, 4].tolist() == [20, 235, 7]


def test_ybr_is_shown_as_rgb(tmp_path: Path) -> None:
    red = np.broadcast_to(np.array([76, 85, 255], np.uint8), (16, 16, 3)).copy()
    whole = image(tmp_path, dicom(red, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(whole[0, 0].astype(int) - np.array([254, 0, 0])).max() < 3
    pairs = np.broadcast_to(np.array([76, 76, 85, 255], np.uint8), (16, 8, 4)).copy()
    half = dicom(red, PhotometricInterpretation="YBR_FULL_422", PixelData=pairs.tobytes())
    assert np.abs(image(tmp_path, half)[0, 0].astype(int) - np.array([254, 0, 0])).max() < 3


@pytest.mark.parametrize("name", [
    "693_J2KI.dcm", "CT_small.dcm", "ExplVR_BigEnd.dcm", "JPEGLSNearLossless_16.dcm", "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_rle_32bit_2frame.dcm", "SC_rgb_small_odd_big_endian.dcm", "examples_overlay.dcm",
    "examples_rgb_color.dcm", "image_dfl.dcm", "liver_1frame.dcm", "SC_rgb_gdcm_KY.dcm",
    "SC_jpeg_no_color_transform.dcm"])
def test_stored_values_are_those_that_pydicom_decodes(name: str) -> None:
    data, size = read_dataset(SAMPLES / name)
    frames = frames_of(data, size)
    expected = data.pixel_array.reshape(frames.count, frames.rows, frames.columns, -1)
    found = np.stack(list(stored_values(data, frames))).reshape(expected.shape)
    assert np.abs(found.astype(float) - expected).max() == 0


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_twelve_bit_jpeg_is_read(name: str) -> None:
    found = images(SAMPLES / name)[0]
    assert found.min() == 0 and found.max() == 255 and found.std() > 20


def test_single_frames_of_a_compressed_file_are_read_alone() -> None:
    data, size = read_dataset(SAMPLES / "examples_ybr_color.dcm")
    frames = frames_of(data, size)
    every = list(stored_values(data, frames))
    some = list(stored_values(data, frames, [3, 17]))
    assert len(every) == frames.count == 30
    assert np.array_equal(some[0], every[3]) and np.array_equal(some[1], every[17])


@pytest.mark.parametrize(("tags", "words"), [
    ({"Rows": 60000, "Columns": 60000}, "million"), ({"Rows": 4000, "Columns": 4000}, "more than the file holds"),
    ({"NumberOfFrames": 500}, "500 frames"), ({"NumberOfFrames": 10**8}, "frames, more than"), ({"Rows": 0}, "0x16"),
    ({"SamplesPerPixel": 9}, "9 samples"), ({"BitsStored": 40}, "40 bits"), ({"Rows": None}, "no image"),
    ({"PixelData": b"\0" * 64}, "more than the file|ends within")])
def test_a_header_that_lies_is_refused_before_anything_is_decoded(tmp_path: Path, tags: dict[str, Any],
                                                                  words: str) -> None:
    path = save(dicom(RAMP, **tags), tmp_path / "x.dcm")
    with pytest.raises(UnreadableImage, match=words):
        images(path)


def test_fewer_compressed_frames_than_said_are_named(tmp_path: Path) -> None:
    data = dicom(np.stack([RAMP] * 3), frames=3)
    data.compress(RLELossless)
    data.NumberOfFrames = 7
    with pytest.raises(UnreadableImage, match="fewer than the 7|damaged"):
        images(save(data, tmp_path / "x.dcm"))


def test_a_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_parsing, "LIMITS", replace(LIMITS, file=10**6))
    plain = save(dicom(RAMP, syntax="1.2.840.10008.1.2.1.99"), tmp_path / "x.dcm")
    content = plain.read_bytes()
    packed = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = content.index(b"1.2.840.10008.1.2.1.99")
    end = start + len(b"1.2.840.10008.1.2.1.99")
    meta_end = next(at for at in range(end, len(content)) if _inflates(content[at:]))
    plain.write_bytes(content[:meta_end] + packed.compress(b"\0" * 10**7) + packed.flush())
    with pytest.raises(UnreadableImage, match="so do bombs"):
        images(plain)


def _inflates(content: bytes) -> bool:
    try:
        return len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, 600)) > 500
    except zlib.error:
        return False


@pytest.mark.parametrize("keep", [0, 100, 140, 400, 0.5, 0.9])
@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "CT_small.dcm", "JPEG2000.dcm", "JPEGLSNearLossless_16.dcm"])
def test_truncated_files_are_bad_and_nothing_else(tmp_path: Path, name: str, keep: float) -> None:
    content = (SAMPLES / name).read_bytes()
    path = tmp_path / "x.dcm"
    path.write_bytes(content[:int(keep if keep > 1 else keep * len(content))])
    found: list[np.ndarray] = []
    with suppress(UnreadableImage):
        found = images(path)
    assert all(one.dtype == np.uint8 for one in found)


def test_a_series_is_imported_by_patient_and_slice(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "root")
    place, preview = import_set(str(dicom_set(tmp_path / "s")), "ct", ImportOptions(), paths)
    assert preview.kind == "dicom" and preview.patients == 8 and not preview.skipped
    assert not any("folders below the classes" in note for note in preview.notes), "patients are those of the files"
    data = open_dataset("ct", 16, paths)
    assert data.classes == ("cancer", "normal") and not data.info.flip
    parts = [set(split.groups or ()) for split in data.splits.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 8
    assert place == paths.data / "ct"


def test_slices_lie_in_order_of_their_position(tmp_path: Path) -> None:
    root = dicom_set(tmp_path / "s", patients=3)
    files = [path.relative_to(root).as_posix() for path in root.rglob("*.dcm")]
    headers, _ = dicom_files.read_headers(root, files, b"s")
    slices = dicom_files.slices_of(headers)
    first = [one.relative.rsplit("/")[-1] for one in slices if one.name.startswith(slices[0].name[:21])]
    assert first == ["0.dcm", "1.dcm", "2.dcm"]


def test_nothing_of_the_patient_is_kept(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "root")
    place, _ = import_set(str(dicom_set(tmp_path / "s")), "ct", ImportOptions(), paths)
    written = [path for path in place.rglob("*") if path.is_file()]
    everything = b"".join(path.read_bytes() + str(path.relative_to(place)).encode() for path in written)
    for secret in (b"Doe", b"DOE", b"Elsewhere", b"1970", b"1.2.826"):
        assert secret not in everything
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as opened:
                assert not opened.info


def test_the_same_patient_has_the_same_hash_in_every_import_here_and_another_elsewhere(tmp_path: Path) -> None:
    here, elsewhere = Paths(tmp_path / "a"), Paths(tmp_path / "b")
    one, two = dicom_files.salt_of(here), dicom_files.salt_of(elsewhere)
    assert one == dicom_files.salt_of(here) != two and len(one) == 32
    assert dicom_files.hashed("p", one) != dicom_files.hashed("p", two)
    assert (here.data / dicom_files.SALT).stat().st_mode & 0o077 == 0


def test_a_bad_file_among_good_ones_is_skipped_and_said(tmp_path: Path) -> None:
    root = dicom_set(tmp_path / "s")
    (root / "cancer" / "DOE_cancer_0" / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM" + struct.pack("<I", 7) * 20)
    _, preview = import_set(str(root), "ct", ImportOptions(), Paths(tmp_path / "root"))
    assert len(preview.images) == 24 and len(preview.skipped) == 1


def test_multi_frame_files_come_by_frame_and_bad_pixels_cost_only_themselves(tmp_path: Path) -> None:
    data = dicom(np.stack([RAMP] * 40), frames=40)
    path = save(data, tmp_path / "x.dcm")
    headers, _ = dicom_files.read_headers(tmp_path, ["x.dcm"], b"s")
    found = list(dicom_files.read_slices(dicom_files.slices_of(headers), Window()))
    assert len(found) == 40 and all(isinstance(one, SampleFiles) for one in found)
    path.write_bytes(b"gone")
    again = list(dicom_files.read_slices(dicom_files.slices_of(headers), Window()))
    assert len(again) == 40 and all(isinstance(one, Skipped) for one in again)


@pytest.mark.parametrize("encode", [png, packed_png])
def test_written_images_are_read_back_as_they_were(encode: Callable[[np.ndarray], bytes]) -> None:
    for shape in ((5, 7), (1, 1), (300, 400), (4, 9, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        with Image.open(io.BytesIO(encode(pixels))) as opened:
            opened.verify()
        with Image.open(io.BytesIO(encode(pixels))) as opened:
            assert np.array_equal(np.asarray(opened), pixels)


def test_signed_values_of_any_range_are_windowed_as_every_value_alone(tmp_path: Path) -> None:
    values = np.linspace(-32768, 32767, 256).astype(np.int16).reshape(16, 16)
    found = image(tmp_path, dicom(values, WindowCenter=0, WindowWidth=65536))
    assert np.array_equal(found.ravel(), np.arange(256))


def test_the_decoder_of_lossy_pixels_is_in_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths(tmp_path / "root")

    def imported(name: str, decoder: str) -> str:
        for number in range(8):
            data = pydicom.dcmread(SAMPLES / name)
            data.PatientID = f"p{number}"
            save(data, tmp_path / name / "ab"[number % 2] / f"{number}.dcm")
        with monkeypatch.context() as patch:
            patch.setattr(dicom_pixels, "decoders", lambda: decoder)
            place, _ = import_set(str(tmp_path / name), "set", ImportOptions(), paths)
        assert history_of(place)[0]["decoders"] == decoder
        found = fingerprint("set", paths)
        shutil.rmtree(place)
        return found

    lossy, lossless = "SC_rgb_dcmtk_+eb+cy+s2.dcm", "SC_rgb_rle.dcm"
    assert imported(lossy, "x 1") == imported(lossy, "x 1") != imported(lossy, "x 2")
    assert imported(lossless, "x 1") == imported(lossless, "x 2")


@pytest.mark.parametrize("text", ["40", "40,0", "40,-3", "wide", "nan,1", "1,2,3"])
def test_a_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"window|unpack"):
        Window.of(text)


def test_named_windows() -> None:
    assert (Window.of("Lung").centre, Window.of("40, 400").width) == (-600, 400)


def test_an_image_from_a_file_is_what_an_import_of_it_would_keep(tmp_path: Path) -> None:
    path = save(enhanced(), tmp_path / "x.dcm")
    headers, _ = dicom_files.read_headers(tmp_path, ["x.dcm"], b"salt")
    kept = list(dicom_files.read_slices(dicom_files.slices_of(headers), Window.of("100,50")))
    for number, one in enumerate(kept, 1):
        found = read_dicom(path, number, "100,50")
        assert isinstance(one, SampleFiles) and found.png() == one.image
        assert found.frames == 2 and "PixelData" not in found.header
    assert read_dicom(path.read_bytes(), 2, "100,50").png() == found.png()
