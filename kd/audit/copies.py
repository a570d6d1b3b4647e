"""Images that are copies of one another: identical, near copies, and look-alikes that may be of one patient.

Candidates are pairs whose perceptual hashes (ImageHash's phash, 16 × 16; Zauner 2010) differ in at most 40 of 256 bits,
the second image as it is or mirrored. That finds every copy that was compressed, resized or brightened, with text drawn
on it or mirrored, but none that was cropped by 5 %; and images of one kind alike, so a second test follows: the
correlation of fine detail (64 × 64, each pixel by the mean and spread around it) must be the higher, the more bits
differ: at least 0.85 for equal hashes, 0.95 for 40 bits. Of planted copies (JPEG at quality 30, half size, gamma 0.7
and 1.4, text, mirrored; four public sets) 97 % pass, of fundi at JPEG quality 30 92 %; of copies turned by 3 degrees at
most a quarter. Of 582,660 pairs of different fundi 9 pass. The others are look-alikes: turned copies, neighbouring
slices, frames of one examination, or just similar. They prove nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.audit.measure import Measurements
from kd.progress import ShareCallback

IDENTICAL, NEAR, ALIKE = KINDS = ("identical", "near copy", "look-alike")
DISTANCE = 40  # bits of 256
DETAIL, PER_BIT = 0.85, 0.0025  # correlation of fine detail of copies: at least so much, and more per bit that differs
FLAT = 2.0  # standard deviation of the grey levels: images below are alike because nothing is on them
MOST = 200_000  # pairs kept; a set with more has hardly an image without a copy
_BLOCK, _ACROSS = 256, 4096  # rows and columns compared at once
_READ = 8192  # images whose fine detail is kept at once, 4 kB each
_SIDE, _BLUR, _QUIET = 64, 1.5, 3.0  # of the fine detail: pixels, pixels, grey levels of noise

Reader = Callable[[int], NDArray[np.uint8]]
"""Pixels [H, W, 3] of an image by its number, without the bars around it."""


@dataclass(frozen=True)
class Pair:
    """Two images by number, first < second. kind: one of KINDS. distance: bits of the hashes that differ. detail:
    correlation of fine detail, -1..1. mirrored: whether the second is like the mirror image of the first."""

    first: int
    second: int
    kind: str
    distance: int
    detail: float
    mirrored: bool = False

    @property
    def proven(self) -> bool:
        """Whether the two are copies, identical or near."""
        return self.kind != ALIKE


def find_pairs(measured: Measurements, read: Reader, progress: ShareCallback) -> tuple[list[Pair], bool]:
    """All pairs, identical ones first, then by detail; and whether there are more than are kept."""
    pairs = _identical(measured)
    same = {(pair.first, pair.second) for pair in pairs}
    candidates, more = list[tuple[int, int, int, bool]](), False
    for candidate in _candidates(measured, progress):
        if len(candidates) == MOST:
            more = True
            break
        if candidate[:2] not in same:
            candidates.append(candidate)
    details = _Details(read)
    near = [_judged(candidate, measured, details) for candidate in candidates]
    return pairs + sorted(near, key=lambda pair: (-pair.detail, pair.first, pair.second)), more


def _identical(measured: Measurements) -> list[Pair]:
    """The first of each lot of equal pixels with every other, flat images aside."""
    lots: dict[bytes, list[int]] = defaultdict(list)
    for number in np.flatnonzero(measured.spread >= FLAT).tolist():
        lots[measured.digests[number]].append(number)
    return [Pair(lot[0], other, IDENTICAL, 0, 1.0) for lot in lots.values() for other in lot[1:]]


def _candidates(measured: Measurements, progress: ShareCallback) -> Iterator[tuple[int, int, int, bool]]:
    """(first, second, distance, mirrored) of pairs of similar hashes."""
    numbers = np.flatnonzero(measured.spread >= FLAT)
    hashes, mirrored = measured.hashes[numbers], measured.mirrored[numbers]
    for start in range(0, len(numbers), _BLOCK):
        for first in range(start, len(numbers), _ACROSS):
            yield from _close(hashes, mirrored, numbers, start, first)
        progress(min(1.0, (start + _BLOCK) / max(len(numbers), 1)))


def _close(hashes: NDArray[np.uint64], mirrored: NDArray[np.uint64], numbers: NDArray[np.int64], start: int,
           first: int) -> Iterator[tuple[int, int, int, bool]]:
    """The candidates of one block: rows from `start` on, columns from `first` on that come after their row."""
    block, across = hashes[start:start + _BLOCK], slice(first, first + _ACROSS)
    plain, turned = _distances(block, hashes[across]), _distances(block, mirrored[across])
    least = np.minimum(plain, turned)
    least[np.tril_indices(len(block), start - first, least.shape[1])] = 255
    for row, column in zip(*np.nonzero(least <= DISTANCE), strict=True):
        yield (int(numbers[start + row]), int(numbers[first + column]), int(least[row, column]),
               bool(turned[row, column] < plain[row, column]))


def _distances(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Bits in which hashes differ [A, B], 255 for all 256."""
    found = np.zeros((len(first), len(second)), np.uint16)
    for word in range(first.shape[1]):
        found += np.bitwise_count(first[:, None, word] ^ second[None, :, word])
    return np.minimum(found, 255).astype(np.uint8)


class _Details:
    """Fine detail of images by number, the last ones kept in 8 bits."""

    def __init__(self, read: Reader) -> None:
        self.kept = lru_cache(_READ)(lambda number: _in_8_bits(fine_detail(read(number))))

    def __getitem__(self, number: int) -> NDArray[np.float64]:
        return self.kept(number).astype(np.float64)


def _in_8_bits(detail: NDArray[np.float64]) -> NDArray[np.int8]:
    return np.clip(np.rint(32 * detail), -127, 127).astype(np.int8)


def fine_detail(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Grey levels [64, 64] of an image [H, W, 3], each by the mean and spread around it."""
    from scipy.ndimage import gaussian_filter

    grey = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    rest = np.asarray(grey, np.float64)
    rest = rest - gaussian_filter(rest, _BLUR)
    return rest / (np.sqrt(gaussian_filter(rest**2, _BLUR)) + _QUIET)


def _judged(candidate: tuple[int, int, int, bool], measured: Measurements, details: _Details) -> Pair:
    first, second, distance, mirrored = candidate
    own, other = details[first], details[second]
    detail = _correlation(own, other[:, ::-1] if mirrored else other)
    same = not mirrored and measured.digests[first] == measured.digests[second]
    near = detail >= DETAIL + PER_BIT * distance
    return Pair(first, second, IDENTICAL if same else NEAR if near else ALIKE, distance, detail, mirrored)


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    one, other = first - first.mean(), second - second.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / length if length else 0.0


def clusters(pairs: Sequence[Pair], count: int) -> NDArray[np.int64]:
    """The cluster of each of `count` images [N]: images that a chain of copies joins have one number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    proven = [(pair.first, pair.second) for pair in pairs if pair.proven]
    ends = np.array(proven, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), (count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)
