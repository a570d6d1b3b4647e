"""The drawn data sets: every registered phantom, one by one."""

from itertools import pairwise

import numpy as np
import pytest

from kd.datasets.phantoms import (
    MARKER_BOX,
    PHANTOMS,
    PhantomOptions,
    PhantomSet,
    Subject,
    canonical,
    draw_set,
    fingerprint,
    parse_reference,
)
from kd.errors import UsageError

EVERY = pytest.mark.parametrize("name", list(PHANTOMS))
SIZE = 48


def small(name: str, size: int = SIZE, **chosen) -> PhantomSet:
    return draw_set(name, PhantomOptions(**{"count": 40, **chosen}), size)


def grow(mask: np.ndarray, by: int) -> np.ndarray:
    """A boolean mask widened by `by` pixels to all sides."""
    padded = np.pad(mask, by)
    views = np.lib.stride_tricks.sliding_window_view(padded, (2 * by + 1, 2 * by + 1))
    return views.any(axis=(2, 3))


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other).max(axis=2)


def test_the_three_sets_are_there():
    assert list(PHANTOMS) == ["phantom-brain", "phantom-dementia", "phantom-fundus"]


@EVERY
def test_facts_say_that_nobody_was_photographed(name):
    info = PHANTOMS[name].info
    assert "drawn phantom, not patients" in info.title
    assert "MIT" in info.licence
    assert info.caveats
    assert info.flip


@EVERY
@pytest.mark.parametrize("size", [32, 50, 224])
def test_any_size(name, size):
    for sample in map(small(name, size).__getitem__, range(4)):
        assert (sample.image.shape, sample.image.dtype) == ((size, size, 3), np.uint8)
        assert (sample.evidence.shape, sample.evidence.dtype) == ((size, size), np.uint8)
        assert set(np.unique(sample.evidence)) <= {0, 255}
        assert sample.image.std() > 20


@EVERY
def test_a_size_shows_the_same_patient(name):
    for index in range(4):
        large, tiny = (small(name, size, difficulty=0.0)[index].image.astype(float) for size in (128, 32))
        averaged = large.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
        assert np.corrcoef(averaged.ravel(), tiny.ravel())[0, 1] > 0.97


@EVERY
def test_repeatable(name):
    one, two = small(name)[5], small(name)[5]
    assert np.array_equal(one.image, two.image)
    assert np.array_equal(one.evidence, two.evidence)


@EVERY
def test_a_larger_set_begins_with_the_smaller(name):
    few, many = (small(name, count=count, shortcut=PHANTOMS[name].classes[0]) for count in (41, 300))
    assert few.members == many.members[:41]
    assert np.array_equal(few[40].image, many[40].image)


@EVERY
def test_another_seed_or_image_is_another_image(name):
    base = small(name)
    assert difference(base[0].image, small(name, seed=1)[0].image).max() > 40
    assert difference(base[0].image, base[len(PHANTOMS[name].classes)].image).max() > 40


@EVERY
def test_iteration_draws_every_member_in_order(name):
    drawn = small(name, 32)
    samples = list(drawn)
    assert [sample.name for sample in samples] == [member.name for member in drawn.members]
    assert len(samples) == len(drawn) == len({sample.name for sample in samples}) == 40
    assert np.array_equal(samples[7].image, drawn[7].image)


@EVERY
@pytest.mark.parametrize("count", [40, 43, 800])
def test_classes_balanced_and_splits_stratified(name, count):
    members = small(name, count=count).members
    classes = len(PHANTOMS[name].classes)
    labels = np.array([member.label for member in members])
    assert np.ptp(np.bincount(labels, minlength=classes)) <= 1
    for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        per_class = np.bincount(labels[[member.split == split for member in members]], minlength=classes)
        assert per_class.min() > 0
        assert np.abs(per_class / (count / classes) - share).max() < 0.1


@EVERY
def test_no_patient_is_in_two_splits(name):
    members = small(name, count=800).members
    splits: dict[tuple, set[str]] = {}
    for member in members:
        splits.setdefault(member.key, set()).add(member.split)
    assert all(len(parts) == 1 for parts in splits.values())
    assert len({(member.key, member.view) for member in members}) == len(members)
    groups = [member.group for member in members]
    if PHANTOMS[name].views == 1:
        assert set(groups) == {None}
    else:
        assert len(set(groups)) == len(splits) == len(members) // PHANTOMS[name].views


def test_slices_of_one_patient_are_alike():
    drawn = small("phantom-dementia", count=160)
    by_group: dict[str, list[np.ndarray]] = {}
    for member in drawn.members:
        if member.label == 0:
            by_group.setdefault(member.group, []).append(drawn.draw(member).image.ravel())
    patients = list(by_group.values())
    within = [np.corrcoef(slices[0], slices[1])[0, 1] for slices in patients]
    between = [np.corrcoef(one[0], other[0])[0, 1] for one, other in pairwise(patients)]
    assert np.mean(within) > np.mean(between) + 0.05


@EVERY
@pytest.mark.parametrize("size", [32, 96])
def test_masks_hold_the_evidence(name, size):
    phantom, drawn = PHANTOMS[name], small(name, size)
    for member in drawn.members[:24]:
        sick, well = drawn.draw(member), drawn.draw(member, evidence=False)
        changed, inside = difference(sick.image, well.image), sick.evidence > 0
        assert not well.evidence.any()
        if phantom.classes[member.label] == phantom.healthy:
            assert not inside.any()
            assert not changed.any()
            continue
        assert 0 < inside.mean() < 0.85
        assert changed[inside].mean() > 2
        near = grow(inside, max(2, size // 16))
        # Two grey values: the soft skirt of a shape or of a blur.
        assert changed[~near].max(initial=0) <= max(2, 0.25 * changed.max())
        assert changed[near].sum() > 0.95 * changed.sum()


@EVERY
def test_difficulty_hides_the_evidence(name):
    """Evidence (what healing the same patient changes) against nuisance (how healthy patients differ) falls."""
    assert clearness(name, 0.0) > 1.15 * clearness(name, 0.5) > 1.15**2 * clearness(name, 1.0)


def clearness(name: str, difficulty: float) -> float:
    drawn = small(name, 32, difficulty=difficulty, count=64)
    pairs = [(drawn.draw(member).image.astype(float), drawn.draw(member, evidence=False).image.astype(float))
             for member in drawn.members]
    change = np.mean([np.abs(sick - well).mean() for sick, well in pairs])
    return float(change / np.std([well for _, well in pairs], axis=0).mean())


@EVERY
def test_brightness_and_border_do_not_give_the_class_away(name):
    drawn = small(name, 32, count=400)
    images = np.stack([sample.image for sample in drawn]).astype(float)
    border = np.ones((32, 32), bool)
    border[2:-2, 2:-2] = False
    train = np.array([member.split != "test" for member in drawn.members])
    labels = np.array([member.label for member in drawn.members])
    for region in (np.ones_like(border), border):
        values = images[:, region].reshape(len(images), -1)
        features = np.stack([values.mean(axis=1), values.std(axis=1)], axis=1)
        assert nearest_mean_accuracy(features, labels, train) < 0.5  # chance: 0.25


def nearest_mean_accuracy(features: np.ndarray, labels: np.ndarray, train: np.ndarray) -> float:
    features = (features - features[train].mean(axis=0)) / (features[train].std(axis=0) + 1e-9)
    means = np.stack([features[train & (labels == label)].mean(axis=0) for label in np.unique(labels)])
    distance = ((features[~train, None] - means)**2).sum(axis=2)
    return float((distance.argmin(axis=1) == labels[~train]).mean())


def test_mri_is_grey_and_fundus_is_not():
    for name in PHANTOMS:
        image = small(name)[0].image.astype(int)
        assert (np.ptp(image, axis=2).max() == 0) == (name != "phantom-fundus")


@EVERY
def test_shortcut_goes_with_its_class_in_training_only(name):
    own = PHANTOMS[name].classes[1]
    members = small(name, count=4000, shortcut=own).members

    def share(splits: tuple[str, ...], mine: bool) -> float:
        return float(np.mean([m.marker for m in members if m.split in splits and (m.label == 1) == mine]))

    assert share(("train", "val"), True) == pytest.approx(0.95, abs=0.03)
    assert share(("train", "val"), False) == pytest.approx(0.05, abs=0.02)
    assert share(("test",), True) == pytest.approx(share(("test",), False), abs=0.12)
    assert share(("test",), False) == pytest.approx(0.5, abs=0.08)
    assert not any(member.marker for member in small(name, count=4000).members)


@EVERY
@pytest.mark.parametrize("size", [32, 96])
def test_marker_changes_the_corner_and_nothing_else(name, size):
    plain, planted = small(name, size), small(name, size, shortcut=PHANTOMS[name].classes[0])
    left, top, right, bottom = (round(share * size) for share in MARKER_BOX)
    marked = [member.position for member in planted.members if member.marker]
    assert marked
    for index in range(12):
        changed = difference(plain[index].image, planted[index].image)
        assert np.array_equal(plain[index].evidence, planted[index].evidence)
        corner = changed[top:bottom, left:right].copy()
        changed[top:bottom, left:right] = 0
        assert not changed.any()
        assert (corner.max() > 60) == (index in marked)


@EVERY
def test_references(name):
    classes = PHANTOMS[name].classes
    text = f"{name}: seed=1, count=400,difficulty=0.3 ,shortcut={classes[0]}"
    assert parse_reference(text) == (name, PhantomOptions(400, 0.3, classes[0], 1))
    assert canonical(text) == f"{name}:count=400,difficulty=0.3,shortcut={classes[0]},seed=1"
    assert canonical(canonical(text)) == canonical(text)
    assert canonical(f"{name}:difficulty=0.50,count=800") == canonical(f"{name}:") == name
    assert canonical(f"{name}:difficulty=1") == canonical(f"{name}:difficulty=1.0")


@pytest.mark.parametrize(("reference", "way_out"), [
    ("phantom-brian", "Did you mean 'phantom-brain'"),
    ("phantom-brain:cuont=400", "Did you mean 'count'"),
    ("phantom-brain:400", "key=value"),
    ("phantom-brain:count=many", "whole number"),
    ("phantom-brain:count=39", "between 40 and 20000"),
    ("phantom-brain:count=20001", "between 40 and 20000"),
    ("phantom-brain:difficulty=hard", "a number"),
    ("phantom-brain:difficulty=1.5", "between 0 and 1"),
    ("phantom-brain:difficulty=nan", "between 0 and 1"),
    ("phantom-brain:seed=-1", "between 0"),
    ("phantom-brain:seed=1,seed=2", "twice"),
    ("phantom-brain:shortcut=gliom", "Did you mean 'glioma'"),
    ("phantom-fundus:shortcut=glioma", "Known: cataract"),
])
def test_bad_references_say_the_way_out(reference, way_out):
    for ask in (parse_reference, canonical, fingerprint):
        with pytest.raises(UsageError, match=way_out):
            ask(reference)


def test_too_small_a_size_is_refused():
    with pytest.raises(UsageError, match="32"):
        draw_set("phantom-brain", PhantomOptions(), 31)


def test_fingerprint_follows_content(monkeypatch):
    plain = fingerprint("phantom-brain")
    assert plain == fingerprint("phantom-brain:count=800,seed=0")
    chosen = ("brain:count=400", "brain:difficulty=0.4", "brain:seed=1", "brain:shortcut=glioma", "fundus")
    others = {fingerprint(f"phantom-{words}") for words in chosen}
    monkeypatch.setattr("kd.datasets.phantoms.VERSION", 999)
    assert len(others | {plain, fingerprint("phantom-brain")}) == 7


@EVERY
def test_a_patient_without_evidence_is_the_healthy_patient(name):
    phantom = PHANTOMS[name]
    healthy = phantom.classes.index(phantom.healthy)
    key = (3, 1, 4)
    as_healthy = phantom.draw(Subject(key, 0, healthy, SIZE, 0.5))
    for label in range(len(phantom.classes)):
        cured = phantom.draw(Subject(key, 0, label, SIZE, 0.5, evidence=False))
        assert np.array_equal(cured.image, as_healthy.image)
