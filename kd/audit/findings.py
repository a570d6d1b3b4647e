"""Findings of an audit: what is wrong with a data set, in words, each from the measurements of one pass."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kd.audit.copies import FLAT, IDENTICAL, Pair
from kd.audit.labels import Suspect
from kd.audit.marks import KINDS
from kd.audit.measure import NEIGHBOUR, Measurements
from kd.audit.yardsticks import FILE, NEAREST, RANDOM, Yardstick
from kd.datasets.base import Dataset
from kd.metrics.classification import auroc_per_class

FAULT, WARNING, NOTE = LEVELS = ("fault", "warning", "note")
LISTED = 500  # images named by a finding
LEAK = 0.01  # share of the test images that have a copy in training, from which on no score can be believed
ABOVE_CHANCE = 0.1  # balanced accuracy above chance, of what never looks at anatomy
SERIES = 0.1  # accuracy that the nearest neighbour gains by a random split
TELLING = 0.9  # AUROC of one corner for one class
RARE = 0.01  # share of marked images, below which they may be errors of the method
SMALL_PART, SMALL_CLASS = 100, 10  # images
CORNER = 5  # of NEIGHBOUR pixels
_DARK, _BRIGHT = 5.0, 250.0  # mean grey levels
NAMES = {"train": "training", "val": "validation", "test": "the test part"}
_PARTS = (("train", "test"), ("val", "test"), ("train", "val"))


IN_SHORT = {
    "patients-train-test": "patients in both train and test", "patients-val-test": "patients in both val and test",
    "patients-train-val": "patients in both train and val", "copies-test": "copies of training images in the test part",
    "copies-val": "copies of training images in validation", "contradictions": "copies with different labels",
    "shortcut": "a shortcut around the anatomy", "corner": "a corner that tells a class",
    "marks": "burnt-in marks on some classes", "flat": "empty images", "unreadable": "unreadable files",
    "small-test": "a small test part"}
"""Every fault and warning in a few words."""


@dataclass(frozen=True)
class Finding:
    """One finding. key: names its kind. level: a fault spoils every score, a warning part of them, a note none. clause:
    what was found, to stand in a sentence. advice: what it means or what to do. images: names, the most telling first.
    """

    key: str
    level: str
    clause: str
    advice: str = ""
    images: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The finding as sentences."""
        said = f"{self.clause[:1].upper()}{self.clause[1:]}."
        return f"{said} {self.advice}" if self.advice else said


def share(part: int, whole: int) -> str:
    """`43 of 320 (13 %)`; a share below one per cent with a digit."""
    percent = 100 * part / max(whole, 1)
    return f"{part:,} of {whole:,} ({percent:.{0 if percent >= 1 or not part else 1}f} %)"


def of_patients(measured: Measurements, drawn: bool) -> Iterator[Finding]:
    """Patients with images in two parts, or patients not known. drawn: whether each image is of its own patient."""
    if measured.groups is None:
        if not drawn:
            yield Finding("patients-unknown", NOTE, "patients are not known, so images of one patient may lie in both "
                          "train and test", "A groups.csv with the columns file and group names them.")
        return
    groups, parts = np.asarray(measured.groups), np.asarray(measured.parts)
    called = f" (by the files' names, as {_shared_patient(measured.groups)})" if measured.named else ""
    if measured.named and not any(np.intersect1d(groups[parts == one], groups[parts == other]).size
                                  for one, other in _PARTS):
        yield Finding("patients-named", NOTE, f"images of one patient{called} lie in one part only; split at random, "
                      f"about {_straddling(measured):,.0f} patients would have images in both train and test",
                      "A groups.csv with the columns file and group, or repairing with a split by patient, makes them "
                      "known: intervals are then by patient.")
    for one, other in _PARTS:
        both = np.intersect1d(groups[parts == one], groups[parts == other])
        if len(both):
            rows = np.flatnonzero((parts == other) & np.isin(groups, both))
            level = FAULT if other == "test" and len(rows) >= LEAK * (parts == other).sum() else WARNING
            said = share(len(rows), int((parts == other).sum()))
            yield Finding(f"patients-{one}-{other}", level, f"{len(both):,} patients{called} have images in both "
                          f"{one} and {other}, with {said} of the {other} images", "Split by patient.",
                          _names(measured, rows))


def _shared_patient(groups: Sequence[str]) -> str:
    """The patient with the most images."""
    return Counter(groups).most_common(1)[0][0]


def _straddling(measured: Measurements) -> float:
    """How many patients a random split of the same size would put into both train and test, expected."""
    counts = np.unique(np.asarray(measured.groups), return_counts=True)[1]
    shares = [len(measured.rows(part)) / len(measured) for part in ("train", "test")]
    train, test = ((1 - part) ** counts for part in shares)
    neither = (1 - sum(shares)) ** counts
    return float((1 - train - test + neither).sum())


def of_copies(measured: Measurements, pairs: Sequence[Pair], more: bool) -> Iterator[Finding]:
    """Copies across and within parts, and with different labels."""
    parts, proven = measured.parts, [pair for pair in pairs if pair.proven]
    for other, rest in (("test", "training or validation"), ("val", "training")):
        across = [pair for pair in proven if _joins(parts[pair.first], parts[pair.second], other)]
        rows = _ends(across, parts, other)
        if rows:
            whole = len(measured.rows(other))
            level = FAULT if other == "test" and len(rows) >= LEAK * whole else WARNING
            yield Finding(f"copies-{other}", level, f"{share(len(rows), whole)} of the {other} images are copies of "
                          f"{rest} images ({_kinds(across)})", "Split by clusters of copies, or drop duplicates.",
                          _names(measured, rows))
    within = [pair for pair in proven if parts[pair.first] == parts[pair.second]]
    if within:
        rows = sorted({pair.second for pair in within})
        more_said = "at least " if more else ""
        yield Finding("copies-within", NOTE, f"{more_said}{share(len(rows), len(measured))} of the images are copies "
                      f"of another image of their part ({_kinds(within)})", "They count twice in training, and make "
                      "intervals of the test too narrow.", _names(measured, rows))
    against = [pair for pair in proven if measured.labels[pair.first] != measured.labels[pair.second]]
    if against:
        rows = list(dict.fromkeys(end for pair in against for end in (pair.first, pair.second)))
        yield Finding("contradictions", WARNING, f"{len(against):,} pairs of copies have different labels",
                      "One label of each pair is wrong.", _names(measured, rows))
    yield from _alike(measured, [pair for pair in pairs if not pair.proven])


def _joins(one: str, another: str, part: str) -> bool:
    """Whether a pair of these parts joins a part with what comes before it: test with the rest, val with train."""
    return one != another and part in (one, another) and (part == "test" or "test" not in (one, another))


def _alike(measured: Measurements, pairs: Sequence[Pair]) -> Iterator[Finding]:
    parts = measured.parts
    rows = _ends([pair for pair in pairs if (parts[pair.first] == "test") != (parts[pair.second] == "test")], parts,
                 "test")
    if rows:
        yield Finding("look-alikes", NOTE, f"{share(len(rows), parts.count('test'))} of the test images look like an "
                      "image of training or validation", "They may be turned copies, slices or frames of one "
                      "patient, or just similar: look at them.", _names(measured, rows))


def _ends(pairs: Sequence[Pair], parts: Sequence[str], wanted: str) -> list[int]:
    """The images of a part among these pairs, in the pairs' order, each once."""
    return list(dict.fromkeys(end for pair in pairs for end in (pair.first, pair.second) if parts[end] == wanted))


def _kinds(pairs: Sequence[Pair]) -> str:
    """`12 pairs identical, 40 near copies, 31 of them mirrored`."""
    same, mirrored = sum(pair.kind == IDENTICAL for pair in pairs), sum(pair.mirrored for pair in pairs)
    said = [f"{same:,} pairs identical"] * bool(same) + [f"{len(pairs) - same:,} near copies"] * (same < len(pairs))
    return ", ".join([*said, *[f"{mirrored:,} of them mirrored"] * bool(mirrored)])


def of_yardsticks(found: Sequence[Yardstick], classes: int) -> Iterator[Finding]:
    """Shortcuts and series, by what simple rules reach."""
    by_key = {one.key: one for one in found}
    files, chance = by_key[FILE], 1 / classes
    if (files.balanced.low or 0.0) > chance + ABOVE_CHANCE:
        yield Finding("shortcut", WARNING, "eleven numbers that never look at anatomy (size, bytes, brightness, "
                      f"border, corners …) reach {percent(files.balanced.mean)} balanced accuracy, chance is "
                      f"{percent(chance)}",
                      "Part of any score may come from how the images were made: look at the maps, and test on "
                      "images of another source.")
    drawn, own = by_key[RANDOM].accuracy.mean or 0.0, by_key[NEAREST].accuracy.mean or 0.0
    if drawn - own >= SERIES:
        yield Finding("series", NOTE, f"the nearest neighbour reaches {percent(drawn)} were the images split at "
                      f"random, and {percent(own)} on this split", "Either images come in series, of one patient for "
                      "example, and only this split keeps them apart; or training differs from the test.")


def percent(value: float | None) -> str:
    """`76.6 %`."""
    return "unknown" if value is None else f"{100 * value:.1f} %"


def of_marks(measured: Measurements, classes: Sequence[str]) -> Iterator[Finding]:
    """Burnt-in marks, and a corner that tells a class."""
    marked = np.array([bool(one) for one in measured.marks])
    if marked.mean() >= RARE:
        kinds = Counter(kind for one in measured.marks for kind in one)
        rates = [float(marked[measured.labels == label].mean()) if (measured.labels == label).any() else 0.0
                 for label in range(len(classes))]
        said = ", ".join(f"{name} {100 * rate:.0f} %" for name, rate in zip(classes, rates, strict=True))
        level = WARNING if max(rates) - min(rates) >= 0.1 and _related(marked, measured.labels) else NOTE
        yield Finding("marks", level, f"{share(int(marked.sum()), len(measured))} of the images carry burnt-in marks ("
                      + ", ".join(f"{kinds[kind]:,} {kind}" for kind in KINDS if kinds[kind]) + f"; by class: {said})",
                      "Found by their strokes; about a quarter is missed.", _names(measured, np.flatnonzero(marked)))
    yield from _corners(measured, classes)


def _related(marked: NDArray[np.bool_], labels: NDArray[np.int64]) -> bool:
    """Whether marks go with the class beyond chance (chi-squared test at 1 %)."""
    from scipy.stats import chi2_contingency

    present = np.unique(labels)
    table = [[int((marked[labels == label] == value).sum()) for label in present] for value in (False, True)]
    return bool(np.asarray(table).sum(axis=1).all() and chi2_contingency(table).pvalue < 0.01)


def _corners(measured: Measurements, classes: Sequence[str]) -> Iterator[Finding]:
    """A corner whose brightness tells one class from the rest in training, as a letter planted there does."""
    train = measured.rows("train")
    grey = measured.grey[train]
    places = {"upper left": grey[:, :CORNER, :CORNER], "upper right": grey[:, :CORNER, NEIGHBOUR - CORNER:],
              "lower left": grey[:, NEIGHBOUR - CORNER:, :CORNER],
              "lower right": grey[:, NEIGHBOUR - CORNER:, NEIGHBOUR - CORNER:]}
    for name, patch in places.items():
        brightest = patch.reshape(len(train), -1).max(axis=1).astype(np.float64)
        areas = auroc_per_class(np.repeat(brightest[:, None], len(classes), axis=1), measured.labels[train])
        for label in np.flatnonzero(np.nan_to_num(np.abs(areas - 0.5)) >= TELLING - 0.5).tolist():
            yield Finding("corner", WARNING, f"the {name} corner tells the class {classes[label]!r} from the others in "
                          f"training (AUROC {max(areas[label], 1 - areas[label]):.2f})",
                          "A model can learn the corner instead of the disease.")


def of_labels(measured: Measurements, doubted: Sequence[Suspect]) -> Iterator[Finding]:
    """Labels in doubt."""
    if doubted:
        yield Finding("labels", NOTE, f"{share(len(doubted), len(measured))} of the labels are in doubt by cheap "
                      "classifiers that did not learn from these images", "A list to look through, most doubtful "
                      "first; most are right, and most wrong labels are not on it.",
                      _names(measured, [one.image for one in doubted]))


def of_counts(data: Dataset) -> Iterator[Finding]:
    """Imbalance, and parts too small to tell."""
    counts = {part: np.array(split.counts(len(data.classes))) for part, split in data.splits.items()}
    train = counts["train"]
    if train.max() >= 3 * train.min():
        most, least = data.classes[train.argmax()], data.classes[train.argmin()]
        yield Finding("imbalance", NOTE, f"training has {int(train.max()):,} images of {most!r} and "
                      f"{int(train.min()):,} of {least!r}", "Accuracy alone flatters: look at balanced accuracy and "
                      "recall.")
    for part, why in (("test", "to compare models"), ("val", "to choose the best epoch well")):
        rows, small = counts[part], counts[part].min() < SMALL_CLASS
        if rows.sum() < SMALL_PART or small:
            half = 100 * 1.96 * np.sqrt(0.8 * 0.2 / max(rows.sum(), 1))
            few = f", {int(rows.min())} of {data.classes[rows.argmin()]!r}" if small else ""
            yield Finding(f"small-{part}", WARNING if part == "test" else NOTE, f"{NAMES[part]} has only "
                          f"{int(rows.sum()):,} images{few}", f"An accuracy of 80 % there is known to ± {half:.0f} "
                          f"points: too few {why}.")


def of_images(data: Dataset, measured: Measurements) -> Iterator[Finding]:
    """Images with nothing on them, and files that could not be read."""
    flat = np.flatnonzero(measured.spread < FLAT)
    if len(flat):
        yield Finding("flat", WARNING, f"{share(len(flat), len(measured))} of the images show nothing but one level",
                      "Exclude them.", _names(measured, flat))
    level = measured.brightness
    extreme = np.flatnonzero((measured.spread >= FLAT) & ((level < _DARK) | (level > _BRIGHT)))
    if len(extreme):
        yield Finding("extreme", NOTE, f"{share(len(extreme), len(measured))} of the images are nearly black or "
                      "nearly white", "", _names(measured, extreme))
    if skipped := data.report.skipped:
        yield Finding("unreadable", WARNING, f"{len(skipped):,} files could not be read (first {skipped[0][0]}: "
                      f"{skipped[0][1]})", "", tuple(name for name, _ in skipped[:LISTED]))


def _names(measured: Measurements, rows: Sequence[int] | NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(measured.names[row] for row in rows[:LISTED])
