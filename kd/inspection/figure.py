"""Figures of heat maps as PNG, SVG or PDF, for slides and print, drawn without global state."""

import io
import math
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.errors import UsageError, unknown
from kd.inspection.overlay import COLORMAPS, OPACITY, SIGNED, lookup, outline, overlay
from kd.metrics.grids import coarse_note
from kd.placement import Placement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OTHER_KINDS = (".jpg", ".jpeg", ".pdf", ".svg", ".webp", ".gif", ".tif", ".tiff", ".bmp")
COLORMAP = COLORMAPS[0]
KINDS = ("png", "svg", "pdf")
DPI, PRINT = 150, 300
TILE, GAP, LABEL, HEADER, MARGIN = 1.6, 0.13, 0.27, 0.52, 0.38  # inches
PANEL = 2.5  # width of the left panel
WRAP, NARROWEST = 6, 5  # stages in a line; least columns on the right
MOST_CLASSES = 8
PICTURE = 256  # minimum side in pixels to which a map is upsampled
INK, SOFT, EDGE = "#1d2733", "#5f6b78", "#c9d0d8"
FINE_PRINT = "Not for clinical use."


@dataclass(frozen=True, eq=False)
class HeatmapTile:
    """Tile of one map in 0..1 at its native grid, over the image; a blank map is labelled so.

    signed: 0.5 is neutral, and values below it, evidence against the class, have their own colours. placement: of the
    map's cells in the image; None where the grid is stretched over it.
    """

    label: str
    heat: NDArray[np.floating]
    blank: bool = False
    signed: bool = False
    placement: Placement | None = None


@dataclass(frozen=True, eq=False)
class ModelRow:
    """Row of one model: a title, a line of facts, tiles in a separate column (leads) and tiles that wrap."""

    title: str
    facts: str
    leads: tuple[HeatmapTile, ...]
    tiles: tuple[HeatmapTile, ...]


@dataclass(frozen=True, eq=False)
class ClassBars:
    """Class probabilities [K] of one model; `color` is that of its role."""

    label: str
    probabilities: NDArray[np.floating]
    color: str


@dataclass(frozen=True, eq=False)
class FigureSpec:
    """Content of a figure. image: uint8 [S, S, 3]. target: class number. notes: sentences under the colour bar. mask:
    of the evidence (0 or 255, any size), outlined on every tile; None for no outline. case: which image, in words.
    """

    image: NDArray[np.uint8]
    rows: tuple[ModelRow, ...]
    classes: tuple[str, ...]
    bars: tuple[ClassBars, ...]
    target: int
    notes: tuple[str, ...]
    protocol: str
    mask: NDArray[np.uint8] | None = None
    case: str = ""

    @property
    def sentences(self) -> tuple[str, ...]:
        """The notes, and which maps are too coarse to tell where."""
        coarse = coarse_note((row.title, tile.heat.shape) for row in self.rows for tile in (*row.leads, *row.tiles))
        return (*self.notes, *filter(None, [coarse]))


def is_png(place: Path) -> bool:
    """Whether a figure goes into a file of this name, and not into a folder. Raises UsageError for other image files.
    """
    if place.suffix.lower() in OTHER_KINDS:
        raise UsageError(f"Figures are written as PNG, not {place.suffix}. Name {place.with_suffix('.png')}, or a "
                         "folder.")
    return place.suffix.lower() == ".png"


def draw(sheet: FigureSpec, opacity: float = OPACITY, colormap: str = COLORMAP,
         image: NDArray[np.uint8] | None = None, kind: str = KINDS[0], dpi: int = DPI) -> bytes:
    """The figure as a file of one of KINDS. image: the sheet's at another resolution [S, S, 3], to be shown in its
    place. dpi: of a PNG file, and of the images in others. Raises UsageError for an unknown colour map or kind,
    ValueError for an opacity outside 0..1."""
    if kind not in KINDS:
        raise unknown("kind of figure", kind, KINDS)
    page = _Layout(sheet if image is None else replace(sheet, image=image), opacity, colormap, dpi)
    page.draw()
    buffer = io.BytesIO()
    page.figure.savefig(buffer, format=kind, dpi=dpi)
    return buffer.getvalue()


class _Layout:
    """Layout of a figure, in inches from the top left."""

    def __init__(self, sheet: FigureSpec, opacity: float, colormap: str, dpi: int) -> None:
        from matplotlib.figure import Figure

        self.sheet, self.opacity, self.colormap = sheet, opacity, colormap
        self.pixels = max(PICTURE, round(TILE * dpi))
        self.shown = _shown_classes(sheet)
        self.apart = max(len(row.leads) for row in sheet.rows)
        widest = max(min(len(row.tiles), WRAP) for row in sheet.rows)
        self.columns = max(widest + self.apart, NARROWEST)
        self.right = MARGIN + PANEL + 0.45
        self.width = self.right + self.columns * (TILE + GAP) - GAP + MARGIN
        self.beside = self._notes_height(self._first_free()) <= self._row_height(sheet.rows[0]) - HEADER
        notes = 0.0 if self.beside else self._notes_height(self.right)
        self.body = max(self._left_height(), sum(map(self._row_height, sheet.rows)) + notes)
        self.height = MARGIN + self.body + 0.7
        self.figure = Figure(figsize=(self.width, self.height), dpi=dpi, facecolor="white")

    def draw(self) -> None:
        self._left()
        top = MARGIN
        for number, row in enumerate(self.sheet.rows):
            self._row(row, top)
            if number == 0 and self.beside:
                self._notes(self._first_free(), top + HEADER)
            top += self._row_height(row)
        if not self.beside:
            self._notes(self.right, top)
        self._foot(MARGIN + self.body + 0.1)

    def _left_height(self) -> float:
        return PANEL + LABEL + self._legend_height() + 0.2 + len(self.shown) * self._block() + 0.3

    def _legend_height(self) -> float:
        return 0.3 if len(self.sheet.bars) > 1 else 0.0

    def _block(self) -> float:
        """Height of one class among the bars."""
        return 0.31 + 0.17 * len(self.sheet.bars)

    def _lines(self, row: ModelRow) -> int:
        return max(1, -(-len(row.tiles) // WRAP))

    def _row_height(self, row: ModelRow) -> float:
        return HEADER + self._lines(row) * (TILE + LABEL) + 0.14

    def _first_free(self) -> float:
        """Left edge of the free space beside the first row."""
        first = self.sheet.rows[0]
        taken = self.apart + min(len(first.tiles), WRAP) if first.tiles else len(first.leads)
        return self.right + taken * (TILE + GAP) + 0.12

    def _wrapped(self, left: float) -> list[list[str]]:
        """Notes in lines that fit between `left` and the margin, at 9 points."""
        return [textwrap.wrap(note, int((self.width - MARGIN - left) / 0.07)) for note in self.sheet.sentences]

    def _notes_height(self, left: float) -> float:
        """Height of colour bar and notes; infinite where the column would be too narrow to read."""
        if self.width - MARGIN - left < 3 * TILE:
            return math.inf
        return 0.45 + sum(map(_note_height, self._wrapped(left)))

    def _notes(self, left: float, top: float) -> None:
        """The colour bar, and under it the notes."""
        self._ramp(left, top)
        top += 0.45
        for lines in self._wrapped(left):
            self._text(left, top, "\n".join(lines), size=9, linespacing=1.3)
            top += _note_height(lines)

    def _axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        axes = self.figure.add_axes((left / self.width, 1 - (top + height) / self.height, width / self.width,
                                     height / self.height))
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(EDGE)
        return axes

    def _text(self, left: float, top: float, text: str, size: float = 8, color: str = INK, **style: Any) -> None:
        """Text with its upper edge at `top`; class and model names are not parsed as formulas."""
        self.figure.text(left / self.width, 1 - top / self.height, text, fontsize=size, color=color,
                         parse_math=False, **{"va": "top", **style})

    def _left(self) -> None:
        axes = self._axes(MARGIN, MARGIN, PANEL, PANEL)
        axes.imshow(outline(_at_least(self.sheet.image, self.pixels), self.sheet.mask), interpolation="bilinear")
        side = self.sheet.image.shape
        self._text(MARGIN, MARGIN + PANEL + 0.07, f"the image · {side[1]}×{side[0]} pixels", color=SOFT)
        top = MARGIN + PANEL + LABEL + 0.24
        if len(self.sheet.bars) > 1:
            self._legend(top)
        top += self._legend_height()
        for number in self.shown:
            self._class(number, top)
            top += self._block()
        hidden = len(self.sheet.classes) - len(self.shown)
        if hidden:
            self._text(MARGIN, top + 0.02, f"and {hidden} less likely", color=SOFT)

    def _legend(self, top: float) -> None:
        for place, bars in enumerate(self.sheet.bars):
            self._text(MARGIN + place * PANEL / len(self.sheet.bars), top, f"■ {bars.label}", color=bars.color,
                       weight="bold")

    def _class(self, number: int, top: float) -> None:
        chosen = number == self.sheet.target
        self._text(MARGIN, top, _middle(self.sheet.classes[number], 26 if chosen else 36) + " ◂ target" * chosen,
                   weight="bold" if chosen else "normal")
        axes = self._axes(MARGIN, top + 0.18, PANEL - 0.5, 0.17 * len(self.sheet.bars))
        axes.set_axis_off()
        axes.set(xlim=(0, 1), ylim=(len(self.sheet.bars) - 0.5, -0.5))
        for place, bars in enumerate(self.sheet.bars):
            share = float(np.nan_to_num(bars.probabilities[number]))
            axes.barh(place, 1, height=0.72, color="#eef1f4")
            axes.barh(place, share, height=0.72, color=bars.color)
            axes.text(1.03, place, _percent(bars.probabilities[number]), va="center", fontsize=7.5, color=SOFT)

    def _row(self, row: ModelRow, top: float) -> None:
        room = self.columns * (TILE + GAP)
        self._text(self.right, top, _shorten(row.title, int(room / 0.1)), size=11.5, weight="bold")
        self._text(self.right, top + 0.235, _shorten(row.facts, int(room / 0.062)), color=SOFT)
        for number, tile in enumerate(row.leads):
            self._tile(tile, number, top + HEADER)
        for number, tile in enumerate(row.tiles):
            self._tile(tile, self.apart + number % WRAP, top + HEADER + number // WRAP * (TILE + LABEL))

    def _tile(self, tile: HeatmapTile, column: int, top: float) -> None:
        left = self.right + column * (TILE + GAP)
        axes = self._axes(left, top, TILE, TILE)
        if tile.blank:
            pale = 255 - (255 - _at_least(self.sheet.image, self.pixels)) // 3
            axes.imshow(outline(pale, self.sheet.mask), interpolation="bilinear")
            axes.text(0.5, 0.5, "blank", transform=axes.transAxes, ha="center", va="center", fontsize=11, color=INK,
                      bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": EDGE})
        else:
            colormap = SIGNED if tile.signed else self.colormap
            large = _at_least(self.sheet.image, self.pixels)
            painted = overlay(large, tile.heat, self.opacity, colormap, tile.placement)
            axes.imshow(outline(painted, self.sheet.mask))
        self._text(left + TILE / 2, top + TILE + 0.05, tile.label, color=SOFT, ha="center")

    def _ramp(self, left: float, top: float) -> None:
        """A colour bar for each kind of map that is shown."""
        kinds = {tile.signed for row in self.sheet.rows for tile in (*row.leads, *row.tiles)}
        for signed in sorted(kinds):
            axes = self._axes(left, top, 2.0, 0.12)
            axes.imshow(lookup(SIGNED if signed else self.colormap)[None], aspect="auto")
            words = ("against the class", "for it") if signed else ("least of this map", "most")
            for place, word, side in zip((0.0, 2.0), words, ("left", "right"), strict=True):
                self._text(left + place, top + 0.16, word, size=7, color=SOFT, ha=side)
            left += 2.4

    def _foot(self, top: float) -> None:
        most = int((self.width - 2 * MARGIN) / 0.055)
        self._text(MARGIN, top + 0.02, _shorten(self.sheet.case, most), size=7, color=SOFT)
        self._text(MARGIN, top + 0.18, _shorten(self.sheet.protocol, most), size=7, color=SOFT)
        self._text(MARGIN, top + 0.34, f"{FINE_PRINT} Made with KD Lens.", size=7, color=SOFT)


def _shown_classes(sheet: FigureSpec) -> list[int]:
    """The likeliest classes by any model, always with the target, in their own order."""
    likely = np.nan_to_num(np.max([bars.probabilities for bars in sheet.bars], axis=0))
    likely[sheet.target] = np.inf
    return sorted(np.argsort(-likely, kind="stable")[:MOST_CLASSES].tolist())


def _at_least(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The image enlarged by a whole factor, so that a smooth map over a small image is not blocky."""
    factor = max(1, -(-side // min(image.shape[:2])))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most - 1].rstrip() + "…"


def _middle(text: str, most: int) -> str:
    """Shortened in the middle: long class names often differ at their ends."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half].rstrip()}…{text[-half:].lstrip()}"


def _note_height(lines: list[str]) -> float:
    return 0.17 * len(lines) + 0.07


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else "n/a"
