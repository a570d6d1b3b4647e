"""Marks burnt into images."""

import numpy as np
import pytest
from made_leaks import texture
from PIL import Image, ImageDraw

from kd.audit.marks import CALLIPERS, COLOUR, TEXT, marks


def ground(seed: int = 1) -> Image.Image:
    return texture(seed).resize((224, 224)).point(lambda value: value // 2)


def test_nothing_is_found_where_nothing_is_drawn() -> None:
    assert [marks(np.asarray(ground(seed))) for seed in range(20)] == [frozenset()] * 20


def test_a_word_is_text_and_two_letters_are_not() -> None:
    for word, found in (("LEFT BREAST", {TEXT}), ("RT", set())):
        image = ground()
        ImageDraw.Draw(image).text((40, 100), word, fill="white")
        assert marks(np.asarray(image)) == found, word


@pytest.mark.parametrize(("places", "found"), [([(60, 60), (120, 90)], {CALLIPERS}), ([(60, 60)], set())])
def test_two_crosses_are_callipers_and_one_is_not(places: list[tuple[int, int]], found: set[str]) -> None:
    image = ground()
    pen = ImageDraw.Draw(image)
    for x, y in places:
        pen.line((x - 4, y, x + 4, y), fill="white")
        pen.line((x, y - 4, x, y + 4), fill="white")
    assert marks(np.asarray(image)) == found


def test_colour_counts_in_a_grey_image_only() -> None:
    image = ground()
    ImageDraw.Draw(image).line((20, 20, 80, 20), fill=(255, 255, 0), width=2)
    assert COLOUR in marks(np.asarray(image))
    assert COLOUR not in marks(np.full((64, 64, 3), (200, 60, 20), np.uint8))


def test_a_bright_area_or_a_line_is_no_mark() -> None:
    image = ground()
    pen = ImageDraw.Draw(image)
    pen.ellipse((30, 30, 90, 80), fill="white")
    pen.line((0, 150, 223, 160), fill="white", width=2)
    assert marks(np.asarray(image)) == frozenset()
