"""Marks burnt into images: text, callipers (measuring crosses) and colour in grey images, found by their strokes.

Text is a row of at least three glyph-sized components of white strokes on a darker ground; a calliper is a plus sign,
and counts from two on. Measured at 224 px: of the 61 of 400 breast ultrasounds that it names 60 carry marks, and it
finds 10 of the 13 marked ones in a sample of 60 that was looked at (dotted and slanted callipers and single letters are
missed); of 3,396 images of brains and eyes it names 16, 9 of them wrongly. So it tells how common marks are in a class,
not which image has none.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TEXT, CALLIPERS, COLOUR = KINDS = ("text", "callipers", "colour")
_STROKE = 5  # pixels: strokes are thinner than this
_CONTRAST, _BRIGHT, _GROUND = 80, 150, 120  # grey levels of a stroke over its ground, of a stroke, of the ground
_GLYPH, _CROSS = (4, 12), (4, 11)  # pixels a side
_GAP = 7  # pixels between two glyphs of a row, at most
_LEAST_TEXT, _LEAST_CROSSES, _LEAST_COLOURED = 3, 2, 20
_GREY, _COLOURED = 25, 80  # spread of the channels: at most in a grey pixel, at least in a coloured one
Box = tuple[int, int, int, int]
"""Top, bottom, left and right of a component; bottom and right excluded."""


def marks(image: NDArray[np.uint8]) -> frozenset[str]:
    """Which of KINDS an image [H, W, 3] carries."""
    red, green, blue = np.ascontiguousarray(image.transpose(2, 0, 1))  # apart they are combined ten times as fast
    brightest = np.maximum(np.maximum(red, green), blue)
    spread = brightest - np.minimum(np.minimum(red, green), blue)
    found = {COLOUR} if _coloured(spread) else set()
    boxes, crosses = _components(brightest)
    if len(_longest_row(boxes)) >= _LEAST_TEXT:
        found.add(TEXT)
    if crosses >= _LEAST_CROSSES:
        found.add(CALLIPERS)
    return frozenset(found)


def _coloured(spread: NDArray[np.uint8]) -> bool:
    """Whether an otherwise grey image has clearly coloured pixels. spread: of the channels [H, W]."""
    return bool((spread > _COLOURED).sum() > _LEAST_COLOURED and (spread > _GREY).mean() < 0.05)


def _components(grey: NDArray[np.uint8]) -> tuple[list[Box], int]:
    """Boxes of glyph-sized components of thin bright strokes, and how many components are plus signs."""
    from scipy import ndimage  # here, because it takes a while to load

    ground = _opened(grey)
    strokes = (grey - ground >= _CONTRAST) & (grey >= _BRIGHT) & (ground < _GROUND)
    if strokes.sum() < 3 * _GLYPH[0]:
        return [], 0
    numbers, _ = ndimage.label(strokes, np.ones((3, 3)))
    boxes, crosses = list[Box](), 0
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), 1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if _GLYPH[0] <= height <= _GLYPH[1] and width <= 16:
            boxes.append((rows.start, rows.stop, columns.start, columns.stop))
        if all(_CROSS[0] <= side <= _CROSS[1] for side in (height, width)) and abs(height - width) <= 3:
            crosses += _is_plus(numbers[rows, columns] == number)
    return boxes, crosses


def _opened(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image without what is thinner than a stroke (grey opening with a square)."""
    low = _filtered(_filtered(grey, np.minimum, 0), np.minimum, 1)
    return _filtered(_filtered(low, np.maximum, 0), np.maximum, 1)


def _filtered(grey: NDArray[np.uint8], choose: np.ufunc, axis: int) -> NDArray[np.uint8]:
    """The least or greatest of `_STROKE` neighbours along an axis; slices are ten times as fast as scipy's filter."""
    half, length = _STROKE // 2, grey.shape[axis]
    padded = np.pad(grey, [(half, half) if one == axis else (0, 0) for one in (0, 1)], mode="edge")
    pieces = [padded[shift:shift + length] if axis == 0 else padded[:, shift:shift + length]
              for shift in range(_STROKE)]
    found = pieces[0].copy()
    for piece in pieces[1:]:
        choose(found, piece, out=found)
    return found


def _longest_row(boxes: Sequence[Box]) -> list[Box]:
    """The longest row of boxes of the same top and bottom (within a pixel) with small gaps."""
    ordered = sorted(boxes, key=lambda box: box[2])
    longest: list[Box] = []
    for start, first in enumerate(ordered):
        row = [first]
        for box in ordered[start + 1:]:
            level = abs(box[0] - first[0]) <= 1 and abs(box[1] - first[1]) <= 1
            if level and 0 <= box[2] - row[-1][3] < _GAP:
                row.append(box)
        longest = max(longest, row, key=len)
    return longest


def _is_plus(shape: NDArray[np.bool_]) -> bool:
    """Whether a component [H, W] is a plus sign: one full row, one full column, both near the middle, empty corners."""
    columns, rows = shape.mean(axis=0), shape.mean(axis=1)
    column, row = int(columns.argmax()), int(rows.argmax())
    height, width = shape.shape
    if columns[column] < 0.8 or rows[row] < 0.8:
        return False
    if not (0.25 <= column / (width - 1) <= 0.75 and 0.25 <= row / (height - 1) <= 0.75):
        return False
    side = max(1, min(height, width) // 3)
    corners = np.concatenate([part.ravel() for rows_ in (shape[:side], shape[-side:])
                              for part in (rows_[:, :side], rows_[:, -side:])])
    return bool(corners.mean() < 0.15 and shape.mean() < 0.65)
