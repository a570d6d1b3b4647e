import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.errors import UsageError
from kd.inspection.figure import ClassBars, FigureSpec, HeatmapTile, ModelRow, draw, is_png
from kd.inspection.overlay import OUTLINE

RANDOM = np.random.default_rng(0)


def sheet(stages=3, classes=("yes", "no"), models=2, notes=("A note.",)):
    heat = RANDOM.random((6, 6))
    tiles = tuple(HeatmapTile(f"layer {number + 1} · 6×6", heat) for number in range(stages))
    rows = (
        ModelRow("Teacher", "facts", (HeatmapTile("Grad-CAM", heat),), ()),
        *(
            ModelRow(f"Student {number}", "facts", (HeatmapTile("Grad-CAM", heat),), tiles)
            for number in range(models - 1)
        ),
    )
    share = np.full(len(classes), 1 / len(classes))
    image = RANDOM.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    return FigureSpec(
        image, rows, classes, tuple(ClassBars(f"m{n}", share, "#2f4b7c") for n in range(models)), 0, notes, "times"
    )


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("stages", [1, 5, 12])
def test_the_figure_grows_with_the_stages_and_stays_inside_its_edges(stages):
    drawn = pixels(draw(sheet(stages)))
    assert drawn.shape[0] > 500
    assert drawn.shape[1] > 1500
    assert drawn.std() > 10
    for edge in (drawn[:20], drawn[-20:], drawn[:, :20], drawn[:, -20:]):
        assert (edge == 255).all()


def test_maps_too_coarse_to_tell_where_are_announced_by_row():
    seen = sheet(1)
    coarse = tuple(replace(row, leads=(HeatmapTile("Grad-CAM", np.eye(3)),)) for row in seen.rows)
    assert seen.sentences == seen.notes
    assert replace(seen, rows=(seen.rows[0], coarse[1])).sentences == (
        *seen.notes, "Student 0: 3×3 cells: too coarse to tell where.")


def test_the_image_can_be_shown_at_its_own_resolution():
    """Stripes of a pixel, which the working copy cannot hold."""
    own = np.zeros((480, 480, 3), np.uint8)
    own[:, ::2] = 255
    gray = replace(sheet(1), image=np.full((48, 48, 3), 128, np.uint8))
    assert draw(gray, image=own) == draw(replace(gray, image=own)) != draw(gray)


def test_twelve_stages_wrap_instead_of_shrinking():
    five, twelve = pixels(draw(sheet(5))), pixels(draw(sheet(12)))
    assert twelve.shape[0] > five.shape[0] + 200
    assert twelve.shape[1] < five.shape[1] * 1.5


def test_long_names_many_classes_and_formula_signs_do_not_break_it():
    names = tuple(f"a very long class name with $x_{{{number}$ and a tail of its own {number}" for number in range(30))
    many = sheet(2, names, models=3, notes=("A note in plain words that says what the maps do not show. " * 6,) * 4)
    drawn = pixels(draw(many))
    assert (drawn[:, -20:] == 255).all()
    assert drawn.shape[0] < 2500


def test_a_blank_map_is_drawn_as_blank_not_as_colour():
    seen = sheet(1)
    blank = replace(seen, rows=tuple(replace(row, leads=(replace(row.leads[0], blank=True),),
                                             tiles=tuple(replace(tile, blank=True) for tile in row.tiles))
                                     for row in seen.rows), image=np.full((32, 32, 3), 90, np.uint8))
    there = replace(seen, image=blank.image)
    right = slice(520, None)  # beyond the left panel; the colour bar is coloured in both

    def coloured(png):
        part = pixels(png)[:, right]
        return (np.ptp(part, axis=2) > 60).sum()

    assert coloured(draw(blank)) < coloured(draw(there)) / 2


def test_undefined_probabilities_are_said_not_raised():
    seen = sheet(1)
    bad = replace(seen, bars=tuple(replace(bar, probabilities=np.array([np.nan, np.nan])) for bar in seen.bars))
    assert pixels(draw(bad)).std() > 10


def test_choices_are_checked_and_change_the_picture():
    seen = sheet(1)
    assert (pixels(draw(seen, 0.9)) != pixels(draw(seen, 0.1))).any()
    with pytest.raises(UsageError, match="colour map"):
        draw(seen, 0.5, "rainbow")


def test_an_image_file_of_another_kind_is_refused_and_not_made_a_folder():
    assert is_png(Path("a/b.PNG")) and not is_png(Path("a/v1.2"))
    with pytest.raises(UsageError, match=r"PNG, not \.jpg\. Name a/b\.png, or a folder"):
        is_png(Path("a/b.jpg"))


def test_threads_draw_the_same_figure():
    seen = sheet(2)
    alone = draw(seen)
    with ThreadPoolExecutor(3) as threads:
        assert all(png == alone for png in threads.map(lambda _: draw(seen), range(3)))


def test_an_outline_and_the_case_are_part_of_a_figure():
    plain = sheet(3)
    mask = np.zeros((16, 16), np.uint8)
    mask[4:10, 4:10] = 255
    cyan = [int((np.abs(pixels(draw(one)) - OUTLINE) < 40).all(axis=-1).sum())
            for one in (plain, replace(plain, mask=mask))]
    assert cyan[1] > cyan[0] + 500
    assert (pixels(draw(plain)) != pixels(draw(replace(plain, case="Test image 70, true class: a_$x$.")))).any()


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_figure_is_a_file_of_the_kind_asked_for(kind, begins):
    assert draw(sheet(2), kind=kind).startswith(begins)
    with pytest.raises(UsageError, match="kind of figure"):
        draw(sheet(2), kind="bmp")


def test_dpi_is_that_of_the_file():
    coarse, fine = (pixels(draw(sheet(2), dpi=dpi)).shape for dpi in (100, 200))
    assert fine[0] == pytest.approx(2 * coarse[0], abs=2)
