"""Cutting a set into parts: per class, whole patients at a time, the same on every machine.

Order is drawn by hashing each patient's (or image's) name with a constant, so it depends on no generator, no file
order and no other image: adding one file moves no other between the parts, except at the very edge of a share.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from kd.datasets.base import Counts, Split
from kd.errors import UsageError

VAL_OF_TRAIN = {"val": 0.15}
TEST_OF_TRAIN = {"test": 0.20}
SHARES = {"test": 0.20, "val": 0.10}  # of one root without parts; the rest trains
TRAINED = 1 - sum(SHARES.values())  # share of a data set in its training split where that is not known yet
_SEED = "kd-lens"


def cut(names: Sequence[str], labels: Sequence[int], groups: Sequence[str | None] | None,
        shares: Mapping[str, float]) -> list[str]:
    """The part of each image [N]: a key of `shares`, or train for the rest.

    Stratified: each share is met per class as nearly as whole patients allow. A patient (group) is never divided; one
    whose images are of several classes counts for the rarest of them. Train always keeps a patient of every class; the
    other parts get one as long as enough are left, in the order of `shares`.
    """
    members = _members(names, groups)
    part = ["train"] * len(names)
    for queue in _by_class(members, labels, "cut").values():
        wanted = sum(len(members[patient]) for patient in queue)
        left = list(queue)
        for name, share in shares.items():
            for patient in _fill(left, members, share * wanted):
                left.remove(patient)
                for index in members[patient]:
                    part[index] = name
    return part


def complete(names: Sequence[str], labels: Sequence[int], given: Sequence[str | None],
             groups: Sequence[str | None] | None,
             wanted: Mapping[str, float] | None = None) -> tuple[list[str], tuple[str, ...]]:
    """The part of each image [N] once missing parts are cut, and notes that say so.

    Validation and, where it is missing, test are always cut from train; a given test part stays as it is. wanted:
    shares of val and test instead of the usual ones.
    """
    present = {part for part in given if part is not None}
    usual = SHARES if not present else {**TEST_OF_TRAIN, **VAL_OF_TRAIN}
    shares = {part: share for part, share in {**usual, **(wanted or {})}.items() if part not in present}
    parts = [part or "train" for part in given]
    train = [index for index, part in enumerate(parts) if part == "train"]
    drawn = cut([names[index] for index in train], [labels[index] for index in train],
                None if groups is None else [groups[index] for index in train], shares)
    for index, part in zip(train, drawn, strict=True):
        parts[index] = part
    return parts, _split_notes(shares, present, groups is not None)


def is_split_note(note: str) -> bool:
    """Whether a note says how missing parts were cut."""
    return note.startswith(("The set has no splits:", "Validation is ", "There is no test split:"))


def _split_notes(shares: Mapping[str, float], present: set[str], grouped: bool) -> tuple[str, ...]:
    how = "per class and whole patients at a time" if grouped else "per class"
    same = "the same images for every run"
    if not shares:
        return ()
    if not present:
        test, val = 100 * shares["test"], 100 * shares["val"]
        return (f"The set has no splits: {100 - test - val:.0f} % train, {val:.0f} % choose the best epoch (val) and "
                f"{test:.0f} % test, {how}, {same}.",)
    says = {"test": "There is no test split: {share:.0f} % of train were cut off as test",
            "val": "Validation is {share:.0f} % of train"}
    return tuple(f"{says[part].format(share=100 * share)}, {how}, {same}." for part, share in shares.items())


def take_fraction(split: Split, fraction: float, classes: int) -> NDArray[np.int64]:
    """Indices [n], ascending, of a share (0..1] of a split: per class, whole patients at a time.

    A smaller share lies within every larger one, so learning curves differ only by what was added. Every class that has
    an image keeps at least one.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, not {fraction}")
    labels = split.labels.tolist()
    members = _members(split.names, split.groups)
    queues = _by_class(members, labels, "fraction")
    chosen = set(_cover(members, labels, classes))
    for queue in queues.values():
        sizes = np.array([len(members[patient]) for patient in queue])
        # A patient is in when more than half of it fits: this depends on the share alone, so shares are nested.
        fits = np.cumsum(sizes) - sizes / 2 <= fraction * sizes.sum()
        chosen.update(patient for patient, inside in zip(queue, fits, strict=True) if inside)
    return np.array(sorted(index for patient in chosen for index in members[patient]), np.int64)


def folds(split: Split, count: int, seed: int) -> NDArray[np.int64]:
    """Fold [N], 1 to `count`, of each image of a split: per class, whole patients at a time.

    Every patient of a class, in an order drawn for this seed, goes to the fold with the fewest images of that class,
    and of equals to the one with the fewest images in all. Raises UsageError where some fold has no image, or has all
    patients of a class, which no network trained without it would then know.
    """
    labels = split.labels.tolist()
    members = _members(split.names, split.groups)
    found = np.zeros(len(labels), np.int64)
    sizes = np.zeros((max(labels, default=0) + 1, count), np.int64)
    for label, queue in _by_class(members, labels, f"folds {seed}").items():
        for patient in queue:
            own = members[patient]
            chosen = min(range(count), key=lambda fold: (sizes[label, fold], sizes[:, fold].sum(), fold))
            found[own] = chosen + 1
            np.add.at(sizes[:, chosen], split.labels[own], 1)
    _require_folds(sizes)
    return found


def _require_folds(sizes: NDArray[np.int64]) -> None:
    """sizes: images of each class in each fold [K, folds]."""
    count = sizes.shape[1]
    if not sizes.sum(axis=0).all():
        raise UsageError(f"The training images have too few patients for {count} folds. Set folds to a smaller number, "
                         "or soft_targets to teacher.")
    for label, counts in enumerate(sizes):
        if counts.sum() and counts.max() == counts.sum():
            raise UsageError(f"Too few patients have class number {label} for {count} folds: without one of them no "
                             "training image of it is left. Set folds to another number, or soft_targets to teacher.")


def shared_groups(groups: Sequence[str | None], parts: Sequence[str], one: str, other: str) -> list[str]:
    """Patients who have images in both parts, sorted."""
    seen: dict[str, set[str]] = {one: set(), other: set()}
    for patient, part in zip(groups, parts, strict=True):
        if patient is not None and part in seen:
            seen[part].add(patient)
    return sorted(seen[one] & seen[other])


def require_patients(where: str, groups: Sequence[str | None] | None, counts: Counts) -> None:
    """Raise UsageError where a part is empty because no class has a patient to spare for it."""
    empty = [part for part in ("val", "test") if not sum(counts[part])]
    if groups and empty and None not in groups and len(groups) > 2 * len(set(groups)):
        raise UsageError(f"{where} has {len(groups)} images of only {len(set(groups))} patients, too few for whole "
                         f"patients to be kept for {' and '.join(empty)}: each class needs at least three, or give the "
                         "parts yourself (train/, val/ and test/).")


def straddling(groups: Sequence[str | None] | None, parts: Sequence[str]) -> tuple[str, ...]:
    """Warnings on patients who stand on both sides of a split that came with the set."""
    return tuple(f"{len(both)} patients have images in both {one} and {other} (first {both[0]}): "
                 "expect scores that are too high."
                 for one, other in (("train", "test"), ("train", "val"), ("val", "test"))
                 if groups and (both := shared_groups(groups, parts, one, other)))


def _members(names: Sequence[str], groups: Sequence[str | None] | None) -> dict[str, list[int]]:
    """Indices of each patient's images; an image whose patient is not known is a patient of its own."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        patient = groups[index] if groups is not None else None
        members[f"file {name}" if patient is None else f"person {patient}"].append(index)
    return members


def _by_class(members: Mapping[str, list[int]], labels: Sequence[int], purpose: str) -> dict[int, list[str]]:
    """Patients of each class in their drawn order; one with several classes stands with the rarest."""
    counts = Counter(labels)
    queues: dict[int, list[str]] = defaultdict(list)
    for patient in sorted(members, key=lambda patient: _draw(patient, purpose)):
        own = {labels[index] for index in members[patient]}
        queues[min(own, key=lambda label: (counts[label], label))].append(patient)
    return {label: queues[label] for label in sorted(queues)}


def _draw(patient: str, purpose: str) -> bytes:
    """A pseudo-random number that is constant for this name."""
    return blake2b(f"{_SEED} {purpose} {patient}".encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _fill(queue: Sequence[str], members: Mapping[str, list[int]], wanted: float) -> list[str]:
    """Patients from the front of the queue who together come nearest to `wanted` images.

    At least one, the smallest if need be, and never the last who is left.
    """
    taken: list[str] = []
    filled = 0
    for patient in queue:
        if len(taken) + 1 < len(queue) and filled + len(members[patient]) / 2 <= wanted:
            taken.append(patient)
            filled += len(members[patient])
    if not taken and len(queue) > 1 and wanted > 0:
        taken.append(min(queue, key=lambda patient: len(members[patient])))
    return taken


def _cover(members: Mapping[str, list[int]], labels: Sequence[int], classes: int) -> list[str]:
    """The first patient in drawn order of each class, whatever else that patient has."""
    cover: dict[int, str] = {}
    for patient in sorted(members, key=lambda patient: _draw(patient, "fraction")):
        for index in members[patient]:
            cover.setdefault(labels[index], patient)
        if len(cover) == classes:
            break
    return list(cover.values())
