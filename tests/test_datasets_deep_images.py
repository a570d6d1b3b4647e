"""Images of more than 8 bits, of every channel count and polarity."""

import struct
import zlib
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_datasets_decode import encode

from kd.datasets import decode, deep_images
from kd.datasets.deep_images import read_deep
from kd.datasets.limits import LIMITS
from kd.datasets.mask_labels import drawn_part

SIDE = 16
RAMP = np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)
DEEP = (RAMP * 65535).round().astype(np.uint16)
TWELVE = (RAMP * 4095).round().astype(np.uint16)
GREY = (RAMP * 255).round().astype(int)


def png16(values: np.ndarray) -> bytes:
    """A 16-bit PNG of 1 (grey), 2 (grey and alpha), 3 or 4 channels, which Pillow does not write."""
    values = values[..., None] if values.ndim == 2 else values
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, (0, 4, 2, 6)[values.shape[2] - 1], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(data)) + kind + data +
                                           struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)


def tiff(values: np.ndarray, **options: Any) -> bytes:
    out = BytesIO()
    tifffile.imwrite(out, values, **options)
    return out.getvalue()


FULL = np.full_like(DEEP, 65535)
KINDS = {
    "png grey": png16(DEEP), "png grey 12": png16(TWELVE), "png grey alpha": png16(np.stack([TWELVE, FULL], -1)),
    "png rgb 12": png16(np.stack([TWELVE] * 3, -1)), "png rgb 10": png16(np.stack([TWELVE // 4] * 3, -1)),
    "png rgba 12": png16(np.stack([TWELVE] * 3 + [FULL], -1)),
    "png rgba, alpha 12 bits too": png16(np.stack([TWELVE] * 3 + [FULL // 16], -1)),
    "tiff 12": tiff(TWELVE, photometric="minisblack"), "tiff big-endian": tiff(TWELVE, byteorder=">"),
    "tiff white is zero": tiff(65535 - DEEP, photometric="miniswhite"),
    "tiff white is zero, float": tiff((1 - RAMP).astype(np.float32), photometric="miniswhite"),
    "tiff white is zero, 8 bits": tiff((255 - GREY).astype(np.uint8), photometric="miniswhite"),
    "tiff hounsfield": tiff((RAMP * 4095 - 1024).astype(np.int16)), "tiff uint32": tiff((RAMP * 4e9).astype(np.uint32)),
    "tiff int8": tiff((RAMP * 127).astype(np.int8)), "tiff float16": tiff(RAMP.astype(np.float16)),
    "tiff float64": tiff(RAMP), "tiff rgb 16": tiff(np.stack([TWELVE] * 3, -1), photometric="rgb"),
    "tiff rgb planes": tiff(np.stack([TWELVE] * 3), photometric="rgb", planarconfig="separate"),
    "tiff rgba 16": tiff(np.stack([TWELVE] * 3 + [FULL], -1), photometric="rgb", extrasamples=["unassalpha"]),
    "tiff two channels": tiff(np.stack([TWELVE] * 2, -1), photometric="minisblack", planarconfig="contig"),
    "tiff five channels": tiff(np.stack([GREY.astype(np.uint8)] * 5, -1), photometric="minisblack",
                               planarconfig="contig"),
    "tiff palette 16": tiff(DEEP, photometric="palette", colormap=np.stack([np.arange(65536)] * 3).astype(np.uint16)),
    "tiff deflated": tiff(TWELVE, compression="zlib", predictor=True), "tiff tiled": tiff(TWELVE, tile=(16, 16)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_depth_and_polarity_shows_the_same_ramp(kind: str) -> None:
    found = decode.read(KINDS[kind], SIDE)
    error = 5 if "10" in kind or "int8" in kind else 1  # so coarse are 10 and 7 bits
    assert np.abs(found.pixels.astype(int) - GREY[..., None]).max() <= error
    unscaled = ("float", "five", "8 bits")
    assert (decode.SCALED in found.traits) is (not any(word in kind for word in unscaled) or "zero, float" in kind)


def test_the_channels_of_a_colour_are_scaled_together() -> None:
    found = decode.read(png16(np.stack([TWELVE, TWELVE // 2, TWELVE * 0], -1)), SIDE)
    assert found.pixels[-1, -1].tolist() == [255, 127, 0]


def test_what_is_assumed_is_reported() -> None:
    assert decode.CHANNELS in decode.read(KINDS["tiff two channels"], SIDE).traits
    assert decode.CHANNELS in decode.read(KINDS["tiff five channels"], SIDE).traits
    stack = decode.read(tiff(np.stack([TWELVE, TWELVE // 2]), photometric="minisblack"), SIDE)
    assert decode.FRAMES in stack.traits and stack.pixels.max() == 255
    half = np.stack([TWELVE] * 3 + [np.where(RAMP > 0.5, 65535, 0).astype(np.uint16)], -1)
    assert decode.ALPHA in decode.read(png16(half), SIDE).traits


def test_zero_and_one_are_black_and_white() -> None:
    values = (RAMP > 0.5).astype(np.uint8)
    for found in (decode.read(encode(Image.fromarray(values)), SIDE), decode.fit_array(values, SIDE)):
        assert np.array_equal(found.pixels[..., 0], values * 255)
        assert decode.BINARY in found.traits


def test_an_image_without_light_is_said_to_be_dark() -> None:
    assert decode.DARK in decode.read(encode(Image.fromarray((RAMP * 12).astype(np.uint8))), SIDE).traits
    assert decode.DARK not in decode.read(encode(Image.fromarray((RAMP * 90).astype(np.uint8))), SIDE).traits


def test_eight_bits_are_left_to_pillow() -> None:
    assert read_deep(encode(Image.fromarray(GREY.astype(np.uint8)))) is None
    assert read_deep(tiff(np.stack([GREY.astype(np.uint8)] * 3, -1), photometric="rgb")) is None


@pytest.mark.parametrize("data", [png16(np.stack([TWELVE] * 3, -1)), tiff(TWELVE), tiff(RAMP)])
def test_deep_images_are_bounded_before_they_are_decoded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_images, "LIMITS", replace(LIMITS, pixels=100))
    with pytest.raises(decode.UnreadableImage, match="16x16 pixels"):
        decode.read(data, SIDE)


@pytest.mark.parametrize("data", [png16(np.stack([TWELVE] * 3, -1)), tiff(TWELVE), tiff(RAMP)])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_truncated_deep_images_are_bad(data: bytes, keep: float) -> None:
    with pytest.raises(decode.UnreadableImage):
        decode.read(data[:int(keep * len(data))], SIDE)


@pytest.mark.parametrize(("values", "areas"), [
    ([0, 1, 2], 2), ([0, 1, 4], 2), ([0, 1, 2, 3], 3), ([0, 85, 170, 255], 3), ([0, 127, 255], 2), ([0, 255], 1),
    ([0, 1], 1), ([0, 1000, 2000], 2)])
def test_every_label_of_a_mask_is_drawn(values: list[int], areas: int) -> None:
    labels = np.zeros((SIDE, SIDE), np.uint16)
    for number, value in enumerate(values):
        labels[:, 4 * number:4 * number + 4] = value
    for data in ([png16(labels), tiff(labels)] + ([encode(Image.fromarray(labels.astype(np.uint8)))]
                                                  if max(values) < 256 else [])):
        frame = decode.read(encode(Image.new("RGB", (SIDE, SIDE))), SIDE)
        assert decode.read_mask(data, frame).sum() == 255 * SIDE * 4 * areas


def test_a_soft_edge_is_cut_in_its_middle() -> None:
    soft = np.zeros((64, 64), np.uint8)
    soft[:, :32] = 255
    soft[:, 32], soft[:, 33] = 170, 85
    assert drawn_part(soft).sum() == 64 * 33


def test_labels_that_are_fractions_are_shares() -> None:
    assert drawn_part(np.array([[0.0, 0.2, 0.6, 1.0]])).tolist() == [[False, False, True, True]]
    assert drawn_part(np.array([[0.0, 1.0, 2.0]])).tolist() == [[False, True, True]]
