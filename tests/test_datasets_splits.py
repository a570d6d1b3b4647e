"""Cutting sets into parts: stratified, whole patients, constant, nested."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from kd.datasets import splits
from kd.datasets.base import Split
from kd.datasets.splits import SHARES, VAL_OF_TRAIN, complete, cut, take_fraction
from kd.errors import UsageError


def singles(per_class: dict[int, int]) -> tuple[list[str], list[int]]:
    labels = [label for label, count in per_class.items() for _ in range(count)]
    return [f"c{label}/{index}.png" for index, label in enumerate(labels)], labels


def patients(count: int, classes: int, seed: int = 0) -> tuple[list[str], list[int], list[str | None]]:
    """Patients with 1 to 9 images each, of one class, every tenth of two."""
    rng = np.random.default_rng(seed)
    labels: list[int] = []
    groups: list[str | None] = []
    for patient in range(count):
        for view in range(int(rng.integers(1, 10))):
            labels.append((patient + (view % 2 if patient % 10 == 0 else 0)) % classes)
            groups.append(f"p{patient}")
    return [f"{index}.png" for index in range(len(labels))], labels, groups


def make_split(labels: list[int], groups: list[str | None] | None) -> Split:
    count = len(labels)
    return Split(np.zeros((count, 2, 2, 3), np.uint8), np.array(labels), tuple(f"{i}.png" for i in range(count)),
                 groups=None if groups is None else tuple(str(group) for group in groups))


def test_shares_are_met_per_class() -> None:
    names, labels = singles({0: 100, 1: 40, 2: 10})
    count = Counter(zip(labels, cut(names, labels, None, SHARES), strict=True))
    assert [count[0, part] for part in ("train", "val", "test")] == [70, 10, 20]
    assert [count[1, part] for part in ("train", "val", "test")] == [28, 4, 8]
    assert [count[2, part] for part in ("train", "val", "test")] == [7, 1, 2]


@pytest.mark.parametrize(("count", "expected"), [(1, {"train"}), (2, {"train", "test"}), (3, {"train", "test", "val"})])
def test_few_images_go_to_train_then_test_then_val(count: int, expected: set[str]) -> None:
    names, labels = singles({0: count})
    assert set(cut(names, labels, None, SHARES)) == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_patient_is_never_divided(seed: int) -> None:
    names, labels, groups = patients(60, 3, seed)
    parts = defaultdict(set)
    for group, part in zip(groups, cut(names, labels, groups, SHARES), strict=True):
        parts[group].add(part)
    assert all(len(found) == 1 for found in parts.values())
    assert {part for found in parts.values() for part in found} == {"train", "val", "test"}


def test_shares_of_patients_are_met_nearly() -> None:
    names, labels, groups = patients(300, 3)
    count = Counter(cut(names, labels, groups, SHARES))
    assert count["test"] / len(names) == pytest.approx(0.2, abs=0.03)
    assert count["val"] / len(names) == pytest.approx(0.1, abs=0.03)


def test_one_patient_of_a_class_stays_in_train() -> None:
    names, labels = singles({0: 30, 1: 30})
    groups: list[str | None] = ["only"] * 30 + [f"p{index}" for index in range(30)]
    assert set(cut(names, labels, groups, VAL_OF_TRAIN)[:30]) == {"train"}


def test_the_cut_depends_on_names_and_not_on_order() -> None:
    names, labels = singles({0: 40, 1: 40})
    order = np.random.default_rng(0).permutation(80)
    first = dict(zip(names, cut(names, labels, None, SHARES), strict=True))
    second = cut([names[i] for i in order], [labels[i] for i in order], None, SHARES)
    assert {names[i]: part for i, part in zip(order, second, strict=True)} == first


def test_one_more_image_moves_at_most_one_other() -> None:
    names, labels = singles({0: 100})
    before = cut(names, labels, None, VAL_OF_TRAIN)
    after = cut([*names, "new.png"], [*labels, 0], None, VAL_OF_TRAIN)[:100]
    assert sum(one != other for one, other in zip(before, after, strict=True)) <= 1


def test_the_cut_is_the_same_for_ever() -> None:
    names, labels = singles({0: 10})
    assert [index for index, part in enumerate(cut(names, labels, None, SHARES)) if part == "test"] == [6, 8]


def test_given_parts_are_kept_and_missing_ones_come_from_train() -> None:
    names, labels = singles({0: 60, 1: 60})
    given = (["train"] * 40 + ["test"] * 20) * 2
    parts, notes = complete(names, labels, given, None)
    assert [part for part, was in zip(parts, given, strict=True) if was == "test"] == ["test"] * 40
    assert Counter(parts) == {"train": 68, "val": 12, "test": 40}
    assert len(notes) == 1 and "15 %" in notes[0]


def test_all_parts_given_stay_as_they_are() -> None:
    given = ["train", "val", "test"]
    assert complete(["a", "b", "c"], [0, 0, 0], given, None) == (given, ())


def test_without_test_it_is_cut_from_train_and_said() -> None:
    names, labels = singles({0: 100, 1: 100})
    parts, notes = complete(names, labels, ["train"] * 200, None)
    assert Counter(parts) == {"train": 130, "val": 30, "test": 40}
    assert "no test split" in notes[0]


def test_without_parts_seventy_ten_twenty() -> None:
    names, labels = singles({0: 100, 1: 100})
    parts, notes = complete(names, labels, [None] * 200, [f"p{index // 2}" for index in range(200)])
    assert Counter(parts) == {"train": 140, "val": 20, "test": 40}
    assert "whole patients" in notes[0]


@pytest.mark.parametrize("grouped", [False, True])
def test_smaller_fractions_lie_within_larger_ones(grouped: bool) -> None:
    _, labels, groups = patients(80, 4)
    split = make_split(labels, groups if grouped else None)
    taken = [set(take_fraction(split, share, 4).tolist()) for share in (0.01, 0.1, 0.25, 0.5, 0.8, 1.0)]
    assert all(small <= large for small, large in pairwise(taken))
    assert len(taken[-1]) == len(labels)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.33, 0.5])
def test_fractions_take_whole_patients_and_every_class(share: float) -> None:
    _, labels, groups = patients(80, 4)
    chosen = take_fraction(make_split(labels, groups), share, 4)
    inside = {groups[index] for index in chosen}
    assert sum(group in inside for group in groups) == len(chosen)
    assert {labels[index] for index in chosen} == {0, 1, 2, 3}
    assert (np.diff(chosen) > 0).all()


def test_fractions_are_exact_per_class_without_patients() -> None:
    split = make_split([0] * 100 + [1] * 20 + [2] * 3, None)
    assert Counter(split.labels[take_fraction(split, 0.25, 3)].tolist()) == {0: 25, 1: 5, 2: 1}


def test_a_class_that_only_stands_beside_others_is_kept() -> None:
    split = make_split([0, 1] * 3 + [0] * 50 + [2] * 9, [f"p{index // 2}" for index in range(65)])
    assert {0, 1, 2} <= set(split.labels[take_fraction(split, 0.05, 3)].tolist())


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01])
def test_a_fraction_out_of_range_is_a_defect(share: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        take_fraction(make_split([0, 1], None), share, 2)


def test_patients_on_both_sides_are_found() -> None:
    assert splits.shared_groups(["a", "b", "b", None, None], ["train", "train", "test", "train", "test"],
                                   "train", "test") == ["b"]


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_stratified_and_keep_patients_whole(seed: int) -> None:
    _, labels, groups = patients(60, 3, seed)
    split = make_split(labels, groups)
    found = splits.folds(split, 5, seed)
    assert set(found) == {1, 2, 3, 4, 5}
    assert len({(group, fold) for group, fold in zip(groups, found, strict=True)}) == 60
    for label in range(3):
        counts = np.bincount(found[split.labels == label], minlength=6)[1:]
        assert counts.max() - counts.min() <= 2 * 9  # of two of the largest patients; some have two classes
    assert np.array_equal(found, splits.folds(split, 5, seed))
    assert not np.array_equal(found, splits.folds(split, 5, seed + 1))


def test_folds_of_single_images_differ_by_one_image_of_a_class() -> None:
    split = make_split([0] * 23 + [1] * 7, None)
    found = splits.folds(split, 5, 0)
    for label, expected in ((0, {4, 5}), (1, {1, 2})):
        assert set(np.bincount(found[split.labels == label], minlength=6)[1:]) == expected
    assert set(np.bincount(found)[1:]) == {6}


@pytest.mark.parametrize(("labels", "groups", "words"), [
    ([0, 0, 1, 1], ["a", "b", "c", "c"], "class number 1"), ([0, 0, 1, 1], None, "5 folds")])
def test_too_few_patients_for_folds_are_refused(labels: list[int], groups: list[str | None] | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        splits.folds(make_split(labels, groups), 2 if groups else 5, 0)
