"""Repairs: what is left in the new set, where, and what is said of it."""

from pathlib import Path

import numpy as np
import pytest
from made_leaks import make_clean, plant_copies, plant_named_patients, plant_patients
from made_sets import make_mask

from kd import datasets
from kd.audit.audit import audit
from kd.audit.repair import Repair, repair
from kd.datasets import open_dataset
from kd.datasets.named_sets import history_of
from kd.errors import Stopped, UsageError
from kd.paths import default_paths
from kd.progress import no_progress


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    root = make_clean(tmp_path / "leaking", 12, 6, 6)
    plant_patients(root)
    plant_copies(root)
    make_mask(tmp_path / "leaking_masks/train/ill/ill-train-07.png", (96, 96))
    return root


def names(data: datasets.Dataset, part: str) -> set[str]:
    return {name.rpartition("/")[2] for name in data.splits[part].names}


def test_copies_are_dropped_but_for_those_of_the_test_and_those_that_contradict_all(leaking: Path) -> None:
    paths = default_paths()
    place, found = repair(str(leaking), "mended", Repair(drop_copies=True), paths)
    assert place == paths.data / "mended"
    data = open_dataset("mended", 96, paths)
    assert {"again.png", "mirrored.jpg"} <= names(data, "test")
    assert not {"ill-train-00.png", "well-train-01.png", "ill-train-02.png", "wrong.png"} & names(data, "train")
    assert "ill-train-03.png" in names(data, "train")
    assert found.done == ("4 copies left out, of each cluster all but one; 2 of them because copies had different "
                          "labels.",)
    keys = {one.key for one in audit("mended", paths).findings}
    assert not {key for key in keys if key.startswith("copies")} | {"contradictions"} & keys
    [entry] = history_of(place)
    before = datasets.fingerprint(str(leaking))
    assert (entry["kind"], entry["fingerprint"], entry["images_before"]) == ("repair", before, 51)
    assert entry["images"] == 47 == len(found.images)


def test_bytes_masks_and_patients_come_along_and_the_old_set_stays(leaking: Path) -> None:
    paths = default_paths()
    before = datasets.fingerprint(str(leaking))
    place, _ = repair(str(leaking), "mended", Repair(exclude=("ill-train-03.png",)), paths)
    kept = "train/ill/ill-train-07.png"
    assert (place / kept).read_bytes() == (leaking / kept).read_bytes()
    assert (paths.data / "mended_masks" / kept).exists()
    data = open_dataset("mended", 96, paths)
    assert data.train.groups is not None
    assert "both" in data.train.groups
    assert datasets.fingerprint(str(leaking)) == before
    assert not (place / "train/ill/ill-train-03.png").exists()


@pytest.mark.parametrize("by", ["patients", "copies"])
def test_a_new_split_keeps_patients_and_copies_whole(leaking: Path, by: str) -> None:
    paths = default_paths()
    repair(str(leaking), "mended", Repair(split=by, test=0.3, val=0.2), paths)
    made = audit("mended", paths)
    keys = {one.key for one in made.findings}
    assert not {key for key in keys if key.startswith("patients")}
    assert not {"copies-test", "copies-val"} & keys
    data = open_dataset("mended", 96, paths)
    assert sum(map(len, data.splits.values())) == 51
    assert len(data.test) == pytest.approx(0.3 * 51, abs=4)


def test_patients_in_files_names_can_be_split_by_and_are_known_then(tmp_path: Path) -> None:
    root = make_clean(tmp_path / "named", 12, 6, 6)
    plant_named_patients(root, shared=True)
    paths = default_paths()
    _, found = repair(str(root), "mended", Repair(split="patients", test=0.3, val=0.2), paths)
    assert "patients (by the files' names, such as ill_subj000) and clusters of copies whole" in found.done[-1]
    data = open_dataset("mended", 96, paths)
    groups = [set(split.groups or ()) for split in data.splits.values()]
    assert all(groups)
    assert not groups[0] & groups[2]
    assert not groups[1] & (groups[0] | groups[2])


def test_classes_are_renamed_and_merged(tmp_path: Path) -> None:
    root = make_clean(tmp_path / "three", 6, 3, 3)
    (root / "train/ill").rename(root / "train/bad")
    for part in ("val", "test"):
        (root / part / "ill").rename(root / part / "bad")
    (root / "train/worse").mkdir()
    for path in sorted((root / "train/bad").iterdir())[:3]:
        path.rename(root / "train/worse" / path.name)
    paths = default_paths()
    _, found = repair(str(root), "two", Repair(classes={"worse": "ill", "bad": "ill"}), paths)
    data = open_dataset("two", 96, paths)
    assert data.classes == ("ill", "well")
    assert data.train.counts(2) == [6, 6]
    assert found.done == ("Classes renamed: worse is ill, bad is ill.",)


def test_rows_of_an_array_become_files_of_the_same_pixels(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = {f"{part}_images": draw.integers(0, 255, (12, 28, 28), np.uint8) for part in ("train", "val", "test")}
    labels = {f"{part}_labels": np.arange(12) % 2 for part in ("train", "val", "test")}
    np.savez(tmp_path / "rows.npz", **arrays, **labels)
    paths = default_paths()
    old = open_dataset(str(tmp_path / "rows.npz"), 28, paths)
    repair(old.reference, "files", Repair(exclude=(old.train.names[0],)), paths)
    new = open_dataset("files", 28, paths)
    assert len(new.train) == 11
    assert {image.tobytes() for image in new.test.images} == {image.tobytes() for image in old.test.images}


@pytest.mark.parametrize(("wanted", "words"), [
    ({}, "There is nothing to repair"), ({"split": "chance"}, "Unknown way to split"),
    ({"split": "copies", "test": 0.9, "val": 0.2}, "leave some for training")])
def test_repairs_that_cannot_be_are_said(wanted: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Repair(**wanted)


@pytest.mark.parametrize(("wanted", "words"), [
    (Repair(exclude=("nobody.png",)), "Unknown image 'nobody.png'"), (Repair(classes={"sick": "ill"}), "Unknown class"),
    (Repair(classes={"ill": "well"}), "Only 1 class would be left"), (Repair(classes={"ill": " "}), "needs a new name"),
    (Repair(split="patients"), "patients of this set are not known")])
def test_what_does_not_fit_the_set_is_said_and_nothing_is_written(tmp_path: Path, wanted: Repair, words: str) -> None:
    root = make_clean(tmp_path / "set", 6, 3, 3)
    with pytest.raises(UsageError, match=words):
        repair(str(root), "new", wanted, default_paths())
    assert not list(default_paths().data.glob("*new*"))


def test_a_drawn_set_and_a_name_that_is_taken_are_refused(tmp_path: Path) -> None:
    paths = default_paths()
    with pytest.raises(UsageError, match="change its options"):
        repair("phantom-brain:count=40", "new", Repair(drop_copies=True), paths)
    (paths.data / "taken").mkdir(parents=True)
    with pytest.raises(UsageError, match="is there already"):
        repair("phantom-brain:count=40", "taken", Repair(drop_copies=True), paths)


def test_a_repair_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    root = make_clean(tmp_path / "set", 6, 3, 3)
    asked = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        repair(str(root), "new", Repair(exclude=("ill-train-03.png",)), default_paths(), no_progress,
               lambda: next(asked))
    assert not [path for path in default_paths().data.iterdir() if "new" in path.name]
