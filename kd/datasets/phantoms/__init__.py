"""Phantoms: data sets drawn by the program, seeded, any count, any size; the evidence of each class is a mask.

A reference is a name and options, `phantom-brain:count=400,difficulty=0.3,shortcut=glioma,seed=1`; `draw_set` turns it
into a `PhantomSet`, which knows label, name, patient and split of every image beforehand and draws them one at a time:

    name, options = parse_reference("phantom-fundus:count=400")
    for sample in draw_set(name, options, size=96):
        sample.image, sample.evidence, sample.label, sample.name, sample.group, sample.split, sample.marker

Image i depends on (name, seed, difficulty, shortcut, size, i) alone: a larger set begins with the smaller one. Classes
take turns, so they are balanced within one image; so do the splits (7 : 1 : 2 in every ten patients of a class, all
slices of a patient together). A planted shortcut is a bright letter in the corner: in train and validation it stands on
95 % of one class and 5 % of the others, in test a coin decides for every image. It is drawn last, changes nothing else
(`MARKER_BOX` says where: left, top, right, bottom as shares of the side) and is no part of the mask.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.datasets.phantoms import brain, dementia, fundus  # noqa: F401  (each registers its phantom)
from kd.datasets.phantoms.base import PHANTOMS, Drawing, Phantom, Subject
from kd.datasets.phantoms.drawing import MARKER_BOX, add_marker
from kd.errors import UsageError, unknown
from kd.spec import check

__all__ = ["MARKER_BOX", "PHANTOMS", "VERSION", "Drawing", "Member", "Phantom", "PhantomOptions", "PhantomSet",
           "Sample", "Subject", "canonical", "draw_set", "fingerprint", "parse_reference"]

VERSION = 1  # raise it when any image changes: caches and runs are keyed by it
SMALLEST = 32
SPLITS = ("train", "train", "train", "test", "train", "val", "train", "train", "test", "train")  # of ten patients
MARKED, STRAY, COIN = 0.95, 0.05, 0.5  # share of images with the marker: its class, the others; any class in test
SHORTCUT = 1  # name of the stream that decides on the marker, apart from those of the drawing


def option(default: Any, help: str, low: float | None = None, high: float | None = None) -> Any:
    """A field of the options with its meaning and bounds (inclusive)."""
    return field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass(frozen=True)
class PhantomOptions:
    """What can be chosen of a phantom. Raises UsageError when a value is outside its range."""

    count: int = option(800, "Images in all: train, validation and test together.", 40, 20_000)
    difficulty: float = option(0.5, "0: clear signs and clean images. 1: faint signs, much noise and pose.", 0, 1)
    shortcut: str = option("", "Class that gets the corner marker in training, to plant a wrong reason; empty: none.")
    seed: int = option(0, "Which images: another seed draws other patients.", 0, 2**31 - 1)

    def __post_init__(self) -> None:
        check(self, " of a phantom")


def parse_reference(reference: str) -> tuple[str, PhantomOptions]:
    """Name and options of a reference `name[:key=value,...]`. Raises UsageError with the way out."""
    name, _, text = reference.strip().partition(":")
    known = {item.name: type(item.default) for item in fields(PhantomOptions)}
    phantom = PHANTOMS[name]
    chosen: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UsageError(f"{part!r} in {reference!r} is not an option. Write key=value, with a key out of: "
                             f"{', '.join(known)}.")
        if key not in known:
            raise unknown("phantom option", key, known)
        if key in chosen:
            raise UsageError(f"{key} stands twice in {reference!r}. Leave one out.")
        chosen[key] = _convert(key, value, known[key])
    options = PhantomOptions(**chosen)
    _check_shortcut(phantom, options)
    return name, options


def _convert(key: str, value: str, kind: type) -> Any:
    try:
        return kind(value)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise UsageError(f"{key} of a phantom must be {what}, not {value!r}.") from None


def _check_shortcut(phantom: Phantom, options: PhantomOptions) -> None:
    if options.shortcut and options.shortcut not in phantom.classes:
        raise unknown(f"class for the shortcut of {phantom.name}", options.shortcut, phantom.classes)


def canonical(reference: str) -> str:
    """The one spelling of a reference: options in fixed order, defaults left out."""
    name, options = parse_reference(reference)
    parts = [f"{item.name}={getattr(options, item.name)}" for item in fields(options)
             if getattr(options, item.name) != item.default]
    return f"{name}:{','.join(parts)}" if parts else name


def fingerprint(reference: str) -> str:
    """Hex digest [16] of what the set contains, at any size."""
    name, options = parse_reference(reference)
    text = json.dumps([name, asdict(options), VERSION])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Member(NamedTuple):
    """What is known of an image before it is drawn.

    position: its number in the set. marker: whether it bears the shortcut. key: seed of the patient. view: slice number
    """

    position: int
    label: int
    name: str
    group: str | None
    split: str
    marker: bool
    key: tuple[int, ...]
    view: int


class Sample(NamedTuple):
    """One image: image uint8 RGB [S, S, 3], evidence uint8 [S, S] (0 or 255, empty without evidence), and its info.

    group: the patient, or None where every image is another one. split: train, val or test.
    """

    image: NDArray[np.uint8]
    evidence: NDArray[np.uint8]
    label: int
    name: str
    group: str | None
    split: str
    marker: bool


class PhantomSet:
    """A drawn set at one size. Iterating draws image by image and keeps none; `members` needs no drawing."""

    def __init__(self, phantom: Phantom, options: PhantomOptions, size: int) -> None:
        self.phantom, self.options, self.size = phantom, options, size

    def __len__(self) -> int:
        return self.options.count

    def __getitem__(self, index: int) -> Sample:
        return self.draw(self.members[index])

    def __iter__(self) -> Iterator[Sample]:
        return map(self.draw, self.members)

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """All images in order, undrawn."""
        return tuple(self._member(index) for index in range(len(self)))

    def draw(self, member: Member, evidence: bool = True) -> Sample:
        """One image; without evidence, the same patient as if healthy (and an empty mask)."""
        subject = Subject(member.key, member.view, member.label, self.size, self.options.difficulty, evidence)
        image, mask = self.phantom.draw(subject)
        if member.marker:
            image = add_marker(image)
        return Sample(image, mask, member.label, member.name, member.group, member.split, member.marker)

    def _member(self, index: int) -> Member:
        """Within a class, ten patients show their first slice, then their second …, then the next ten come."""
        phantom, seed = self.phantom, self.options.seed
        turn, label = divmod(index, len(phantom.classes))
        block, place = divmod(turn, len(SPLITS) * phantom.views)
        view, seat = divmod(place, len(SPLITS))
        patient = block * len(SPLITS) + seat
        title = phantom.classes[label]
        group = f"{title}-person-{patient:04d}" if phantom.views > 1 else None
        marker = self._marked(index, label, SPLITS[seat])
        key = (seed, *phantom.name.encode(), label, patient)
        return Member(index, label, f"{title}-{turn:04d}", group, SPLITS[seat], marker, key, view)

    def _marked(self, index: int, label: int, split: str) -> bool:
        if not self.options.shortcut:
            return False
        own = self.phantom.classes[label] == self.options.shortcut
        share = COIN if split == "test" else MARKED if own else STRAY
        key = (self.options.seed, *self.phantom.name.encode(), index, SHORTCUT)
        return bool(np.random.default_rng(key).random() < share)


def draw_set(name: str, options: PhantomOptions, size: int) -> PhantomSet:
    """The set `name` with images of `size` x `size`. Raises UsageError for an unknown name or class, or too small."""
    phantom = PHANTOMS[name]
    _check_shortcut(phantom, options)
    if size < SMALLEST:
        raise UsageError(f"Phantoms are drawn at {SMALLEST} pixels or more, not at {size}. Choose a larger image size.")
    return PhantomSet(phantom, options, size)
