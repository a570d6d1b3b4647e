"""What a phantom is: info, classes and a function that draws one image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.datasets.base import DatasetInfo
from kd.registry import Registry


class Subject(NamedTuple):
    """Everything that decides one image, apart from a planted shortcut.

    key: seed of the patient (any non-negative numbers): same key, same anatomy. view: slice number, 0 up.
    label: index into the phantom's classes. difficulty: 0 (easy) .. 1 (hard). evidence: False draws the very same
    image, noise included, as if the patient were of the healthy class; only the region of the mask changes.
    """

    key: tuple[int, ...]
    view: int
    label: int
    size: int
    difficulty: float
    evidence: bool = True

    def stream(self, *purpose: int) -> np.random.Generator:
        """A generator of its own per purpose: what one part draws never moves another part."""
        return np.random.default_rng((*self.key, *purpose))

    def between(self, easy: float, hard: float) -> float:
        """The value on the line from `easy` (difficulty 0) to `hard` (difficulty 1)."""
        return easy + (hard - easy) * self.difficulty


class Drawing(NamedTuple):
    """image: uint8 RGB [S, S, 3]. evidence: uint8 [S, S], 255 where the evidence of the class is, else 0."""

    image: NDArray[np.uint8]
    evidence: NDArray[np.uint8]


@dataclass(frozen=True)
class Phantom:
    """One kind of drawn data set.

    healthy: the class without evidence, whose masks are empty. views: slices per patient; 1 means that every image is
    a patient of its own. draw: one image of a subject.
    """

    name: str
    info: DatasetInfo
    classes: tuple[str, ...]
    healthy: str
    draw: Callable[[Subject], Drawing]
    views: int = 1


PHANTOMS: Registry[Phantom] = Registry("phantom")
LICENCE = "drawn by this program, MIT"
CAVEATS = ("Drawn, not taken of patients: a score says something about the method, nothing about a disease.",
           "The class evidence is drawn by simple rules, so models reach higher scores than on patients.")


def register(phantom: Phantom) -> Phantom:
    """Put a phantom into the registry under its own name."""
    return PHANTOMS.add(phantom.name)(phantom)
