"""Any image to uint8 RGB in a square."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image
from waiting import PATIENCE

from kd.datasets import decode
from kd.datasets.limits import LIMITS
from kd.datasets.pixel_budget import PixelBudget
from kd.errors import UsageError


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def left_right(mode: str, left: Any, right: Any, size: int = 16) -> Image.Image:
    image = Image.new(mode, (size, size), left)
    image.paste(right, (size // 2, 0, size, size))
    return image


def centres(array: np.ndarray) -> tuple[list[int], list[int]]:
    """Colours in the middle of the left and the right half."""
    side = array.shape[0]
    return array[side // 2, side // 4].tolist(), array[side // 2, 3 * side // 4].tolist()


MODES = {
    "RGB": (left_right("RGB", (10, 20, 30), (200, 100, 50)), [10, 20, 30], [200, 100, 50]),
    "L": (left_right("L", 10, 200), [10] * 3, [200] * 3),
    "1": (left_right("1", 0, 1), [0] * 3, [255] * 3),
    "RGBA": (left_right("RGBA", (200, 100, 50, 0), (200, 100, 50, 255)), [0, 0, 0], [200, 100, 50]),
    "LA": (left_right("LA", (200, 0), (200, 255)), [0] * 3, [200] * 3),
    "P": (left_right("RGB", (10, 20, 30), (200, 100, 50)).quantize(2), [10, 20, 30], [200, 100, 50]),
    "I;16": (Image.fromarray(np.repeat([[1000] * 8 + [5000] * 8], 16, 0).astype(np.uint16)), [0] * 3, [255] * 3),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_png_becomes_rgb(mode: str) -> None:
    image, left, right = MODES[mode]
    array = decode.decode(encode(image), 16)
    assert array.shape == (16, 16, 3) and array.dtype == np.uint8 and array.flags.writeable
    assert centres(array) == (left, right)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG"])
def test_every_format_is_read(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    left, right = centres(decode.decode(encode(left_right("RGB", (0, 0, 0), (255, 255, 255)), kind, **options), 16))
    assert max(left) < 8
    assert min(right) > 247


def test_half_transparent_lies_over_black() -> None:
    image = decode.read(encode(Image.new("RGBA", (8, 8), (200, 100, 50, 128))), 8)
    assert image.pixels[4, 4].tolist() == pytest.approx([100, 50, 25], abs=1)
    assert decode.ALPHA in image.traits


def test_opaque_alpha_is_not_reported() -> None:
    assert not decode.read(encode(Image.new("RGBA", (8, 8), (200, 100, 50, 255))), 8).traits


def test_transparent_palette_colour_is_black() -> None:
    image = left_right("RGB", (10, 20, 30), (200, 100, 50)).quantize(2)
    image = decode.read(encode(image, transparency=image.getpixel((0, 0))), 16)
    assert centres(image.pixels) == ([0, 0, 0], [200, 100, 50])
    assert decode.ALPHA in image.traits


def test_cmyk_jpeg_has_its_colours() -> None:
    red, blue = centres(decode.decode(encode(left_right("CMYK", (0, 255, 255, 0), (255, 255, 0, 0)), "JPEG"), 16))
    assert red[0] > 200 and red[2] < 60
    assert blue[2] > 200 and blue[0] < 60


def test_sixteen_bits_are_scaled_to_their_own_range_and_reported() -> None:
    values = np.linspace(300, 3000, 256).reshape(16, 16).astype(np.uint16)
    image = decode.read(encode(Image.fromarray(values)), 16)
    assert image.pixels.min() == 0 and image.pixels.max() == 255
    assert (np.diff(image.pixels[..., 0].ravel().astype(int)) >= 0).all()
    assert decode.SCALED in image.traits


def test_eight_bit_values_in_sixteen_stay_as_they_are() -> None:
    image = decode.read(encode(Image.fromarray(np.full((8, 8), 77, np.uint16))), 8)
    assert (image.pixels == 77).all()
    assert not image.traits


@pytest.mark.parametrize(("values", "expected", "scaled"), [
    (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255], False),
    (np.array([[0.0, 100.0, 255.0]]), [0, 100, 255], False),
    (np.array([[-1000.0, 0.0, 1000.0]]), [0, 128, 255], True),
    (np.array([[np.nan, np.inf, 2000.0, 1000.0]]), [0, 0, 255, 0], True),
    (np.array([[-5, -5]], np.int32), [0, 0], True),
    (np.array([[True, False]]), [255, 0], False),
])
def test_numbers_of_any_kind(values: np.ndarray, expected: list[int], scaled: bool) -> None:
    found, was_scaled = decode.to_bytes(values)
    assert found.ravel().tolist() == expected
    assert was_scaled is scaled


def test_float_tiff_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f.tif"
    Image.fromarray(np.linspace(-2, 7, 64, dtype=np.float32).reshape(8, 8)).save(path)
    image = decode.read(path, 8)
    assert (image.pixels.min(), image.pixels.max()) == (0, 255)


def test_a_float_image_without_numbers_is_bad() -> None:
    with pytest.raises(decode.UnreadableImage, match="no finite number"):
        decode.to_bytes(np.full((2, 2), np.nan))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_rotation_is_honoured(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    image = Image.new("RGB", (32, 16), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 8, 16))  # a bar at the left of what is stored: at the top once upright
    image = decode.read(encode(image, kind, exif=exif), 32)
    assert image.box == (8, 0, 16, 32) and image.shape == (16, 32)
    assert image.pixels[3, 16].min() > 240
    assert image.pixels[28, 16].max() < 15


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's own remark; outside tests it is not an error
def test_broken_exif_does_not_lose_the_image() -> None:
    good = encode(left_right("RGB", (0, 0, 0), (255, 255, 255)), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x00")
    assert decode.decode(good, 16).shape == (16, 16, 3)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_used(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), shade) for shade in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    exact = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **exact)
    image = decode.read(data, 8)
    assert image.pixels[4, 4].tolist() == [255, 0, 0]
    assert decode.FRAMES in image.traits


@pytest.mark.parametrize(("size", "box"), [((40, 20), (0, 8, 32, 16)), ((20, 40), (8, 0, 16, 32)),
                                           ((2000, 3), (0, 15, 32, 1)), ((1, 1), (0, 0, 32, 32))])
def test_any_aspect_is_fitted_and_never_stretched(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    image = decode.read(encode(Image.new("RGB", size, (255, 255, 255))), 32)
    left, top, width, height = image.box
    assert image.box == box
    assert (image.pixels[top:top + height, left:left + width] == 255).all()
    assert image.pixels.sum() == 255 * 3 * width * height
    assert (decode.FITTED in image.traits) is (size[0] != size[1])


def test_shrinking_averages_instead_of_picking() -> None:
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    array = decode.decode(encode(Image.fromarray(board.astype(np.uint8))), 16)
    assert np.abs(array.astype(int) - 128).max() < 12


def test_a_large_jpeg_decoded_at_a_fraction_is_the_same_image() -> None:
    ramp = Image.fromarray(np.linspace(0, 255, 1000)[None].repeat(700, 0).astype(np.uint8))
    from_jpeg, from_png = decode.read(encode(ramp, "JPEG", quality=95), 50), decode.read(encode(ramp), 50)
    assert from_jpeg.box == from_png.box and from_jpeg.shape == (1000, 700)
    assert np.abs(from_jpeg.pixels.astype(int) - from_png.pixels).max() <= 6


def test_small_images_are_said_to_be_enlarged() -> None:
    assert decode.read(encode(Image.new("L", (28, 28), 99)), 96).traits == {decode.ENLARGED}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_truncated_file_is_bad(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(decode.UnreadableImage):
        decode.read(data[:len(data) // 2], 32)


@pytest.mark.parametrize(("data", "words"), [(b"", "empty"), (b"this is text", "not an image"),
                                             (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image")])
def test_what_is_no_image_is_said(data: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        decode.decode(data, 32)


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "LIMITS", replace(LIMITS, pixels=100))
    with pytest.raises(decode.UnreadableImage, match="11x10"):
        decode.read(encode(Image.new("L", (11, 10))), 32)


def test_a_header_that_promises_gigapixels_is_bad() -> None:
    with pytest.raises(decode.UnreadableImage, match="million"):
        decode.read(b"P5 60000 60000 255\n" + b"\0" * 100, 32)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'gone.png'.*cannot be opened"):
        decode.decode(tmp_path / "gone.png", 32)


@pytest.mark.parametrize("mask", [
    left_right("L", 0, 255), left_right("L", 0, 1), left_right("1", 0, 1), left_right("RGB", (0, 0, 0), (0, 0, 255)),
    left_right("RGBA", (255, 255, 255, 0), (255, 0, 0, 255)), left_right("RGB", (0, 0, 0), (60, 0, 0)).quantize(2),
    Image.fromarray(np.repeat([[0] * 8 + [65535] * 8], 16, 0).astype(np.uint16)),
], ids=["0/255", "0/1", "1-bit", "blue", "alpha", "palette", "16-bit"])
def test_masks_of_every_mode_are_zero_or_full(mask: Image.Image) -> None:
    image = decode.read(encode(Image.new("RGB", (16, 16))), 32)
    found = decode.read_mask(encode(mask), image)
    assert found.shape == (32, 32) and found.dtype == np.uint8
    assert (found[:, :16] == 0).all() and (found[:, 16:] == 255).all()


def test_jpeg_noise_on_a_black_mask_is_no_evidence() -> None:
    image = decode.read(encode(Image.new("RGB", (16, 16))), 32)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 4, (16, 16), dtype=np.uint8))
    assert decode.read_mask(encode(noise, "JPEG"), image).max() == 0


def test_a_mask_stands_in_its_image_frame_whatever_its_size() -> None:
    image = decode.read(encode(Image.new("RGB", (40, 20))), 32)
    found = decode.read_mask(encode(Image.new("L", (80, 40), 255)), image)
    assert (found[8:24] == 255).all() and found.sum() == 255 * 16 * 32


def test_a_mask_of_another_shape_is_refused() -> None:
    image = decode.read(encode(Image.new("RGB", (40, 20))), 32)
    with pytest.raises(decode.UnreadableImage, match="20x40.*40x20"):
        decode.read_mask(encode(Image.new("L", (20, 40), 255)), image)


def test_arrays_are_fitted_like_files() -> None:
    assert decode.fit_array(np.full((10, 20), 9, np.uint8), 32).box == (0, 8, 32, 16)
    assert decode.fit_array(np.full((10, 20, 3), 9, np.uint8), 32).pixels[16, 16].tolist() == [9, 9, 9]
    assert decode.SCALED in decode.fit_array(np.array([[0, 4000]], np.uint16), 32).traits


def test_threads_wait_for_room_before_they_decode() -> None:
    budget, order = PixelBudget(10), []

    def take(pixels: int, name: str) -> None:
        with budget.take(pixels):
            order.append(name)

    with budget.take(7):
        small, large = Thread(target=take, args=(3, "fits")), Thread(target=take, args=(4, "waits"))
        small.start()
        small.join(PATIENCE)
        large.start()
        while not budget.changed._waiters:
            assert large.is_alive()
        order.append("done")
    large.join(PATIENCE)
    assert order == ["fits", "done", "waits"]


def test_one_image_beyond_the_budget_is_decoded_alone() -> None:
    budget = PixelBudget(10)
    with budget.take(99):
        assert budget.taken == 99
    assert budget.taken == 0


def test_a_broken_image_gives_its_room_back() -> None:
    data = encode(Image.new("RGB", (64, 64)))
    with pytest.raises(decode.UnreadableImage):
        decode.read(data[:len(data) // 2], 32)
    assert decode._budget.taken == 0
