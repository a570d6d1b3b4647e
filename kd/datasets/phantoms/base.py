"""What a phantom is: facts, classes and a function that draws one image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.datasets.base import Facts
from kd.registry import Registry


class Subject(NamedTuple):
    """Everything that decides one picture, apart from a planted shortcut.

    key: seed of the person (any non-negative numbers): same key, same anatomy. view: which slice of that person, 0 up.
    label: index into the phantom's classes. difficulty: 0 (easy) .. 1 (hard). evidence: False draws the very same
    picture, noise included, as if the person were of the healthy class; only the region of the mask changes.
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
    """picture: uint8 RGB [S, S, 3]. mask: uint8 [S, S], 255 where the evidence of the class is, else 0."""

    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Phantom:
    """One kind of drawn data set.

    healthy: the class without evidence, whose masks are empty. views: slices per person; 1 means that every image is
    a person of its own. draw: one image of a subject.
    """

    name: str
    facts: Facts
    classes: tuple[str, ...]
    healthy: str
    draw: Callable[[Subject], Drawing]
    views: int = 1


PHANTOMS: Registry[Phantom] = Registry("phantom")
LICENCE = "drawn by this program, MIT"
CAVEATS = ("Drawn, not taken of anybody: a score says something about the method, nothing about a disease.",
           "The class evidence is drawn by simple rules, so models reach higher scores than on patients.")


def register(phantom: Phantom) -> Phantom:
    """Put a phantom into the registry under its own name."""
    return PHANTOMS.add(phantom.name)(phantom)
