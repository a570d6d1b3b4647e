"""One call opens any data set."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_sets import make_folder, make_npz, make_zip

from kd import datasets
from kd.datasets import DatasetEntry, available, fingerprint, open_dataset, resolve, take_fraction
from kd.errors import UsageError
from kd.paths import Paths, default_paths

PARTS = {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2}
REAL = {
    "brain_tumor": ([238, 250, 250, 250], [80] * 4, 430), "eye_disease": ([200] * 4, [70] * 4, 0),
    "alzheimer": ([240, 32, 240, 240], [80, 16, 80, 80], 0), "breast_ultrasound": ([150, 85, 45], [60, 40, 20], 400),
}


@pytest.fixture
def paths() -> Paths:
    made = default_paths()
    made.data.mkdir(parents=True)
    return made


@pytest.mark.parametrize("name", REAL)
def test_real_sets_open_as_their_readme_counts_them(shared: Path, name: str) -> None:
    train, test, masks = REAL[name]
    data = open_dataset(str(shared / "data" / name), 32)
    counts = {part: split.counts(len(data.classes)) for part, split in data.splits.items()}
    assert [sum(pair) for pair in zip(counts["train"], counts["val"], strict=True)] == train
    assert counts["test"] == test
    assert sum(counts["val"]) / sum(train) == pytest.approx(0.15, abs=0.01)
    assert data.report.skipped == () and data.report.warnings == ()
    drawn = [split for split in data.splits.values() if split.has_evidence is not None]
    assert sum(int(split.has_evidence.sum()) for split in drawn) == masks
    for split in data.splits.values():
        assert (split.images.reshape(len(split), -1).std(axis=1) > 4).all()


def test_real_images_with_a_label_table_and_masks(shared: Path) -> None:
    data = open_dataset(str(shared / "data/brain_tumor_seg"), 32)
    assert data.classes == ("glioma", "meningioma", "pituitary")
    assert sum(len(split) for split in data.splits.values()) == 120
    assert all(split.has_evidence is not None and split.has_evidence.all() for split in data.splits.values())


def test_real_folders_without_classes_are_refused(shared: Path) -> None:
    with pytest.raises(UsageError, match="whole data sets"):
        open_dataset(str(shared / "data"), 32)
    with pytest.raises(UsageError, match=r"pneumoniamnist\.npz"):
        open_dataset(str(shared / "data/medmnist"), 32)


@pytest.mark.parametrize("name", list(datasets.phantoms.PHANTOMS))
def test_phantoms_open_with_masks_at_any_size(name: str) -> None:
    data = open_dataset(f"{name}:count=40", 32)
    assert sum(map(len, data.splits.values())) == 40
    assert isinstance(data.train.images, np.memmap) and data.train.images.shape[1:] == (32, 32, 3)
    assert data.train.evidence.max() == 255
    assert data.fingerprint == fingerprint(f"{name}:count=40")


def test_every_kind_gives_the_same_answers(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "s", PARTS)
    for path in (folder, make_zip(tmp_path / "z.zip", folder), make_npz(tmp_path / "n.npz", {"train": 20, "test": 6})):
        data = open_dataset(str(path), 32)
        assert data.reference == str(path) == resolve(str(path))
        assert data.fingerprint == fingerprint(str(path))
        assert data.describe()["counts"]["test"] == data.test.counts(2)


def test_names_below_the_data_folder_need_no_path_and_no_ending(paths: Paths) -> None:
    make_folder(paths.data / "mine", PARTS)
    make_zip(paths.data / "packed.zip", paths.data / "mine")
    make_npz(paths.data / "arrays.npz", {"train": 20})
    files = {"mine": "mine", "packed": "packed.zip", "arrays": "arrays.npz", "arrays.npz": "arrays.npz"}
    for name, file in files.items():
        assert resolve(name, paths) == str(paths.data / file)
        assert open_dataset(name, 32, paths).reference == str(paths.data / file)


def test_paths_are_looked_for_from_here_first(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root in (tmp_path, paths.data):
        make_folder(root / "mine", PARTS)
    monkeypatch.chdir(tmp_path)
    assert resolve("mine", paths) == resolve("./mine/", paths) == str(tmp_path / "mine")


def test_phantom_references_have_one_spelling(paths: Paths) -> None:
    assert resolve(" phantom-brain: seed=1, count=80 ", paths) == "phantom-brain:count=80,seed=1"


@pytest.mark.parametrize(("reference", "words"), [
    ("phantom-brian", "Did you mean 'phantom-brain'"), ("min", "Did you mean 'mine'"), ("", "no data set ''"),
    ("/no/such/place", "Give the path of a folder"), ("a\0b", "no data set"), ("x" * 5000, "no data set"),
])
def test_what_is_not_there_is_said_with_the_way_out(paths: Paths, reference: str, words: str) -> None:
    make_folder(paths.data / "mine", PARTS)
    with pytest.raises(UsageError, match=words):
        resolve(reference, paths)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(UsageError, match="is not a data set"):
        open_dataset(str(tmp_path / "x.tar"), 32)


def test_available_lists_phantoms_and_then_what_lies_there(paths: Paths) -> None:
    make_folder(paths.data / "brain_scans", PARTS)
    make_folder(paths.data / "brain_scans_masks", PARTS)
    make_zip(paths.data / "packed.zip", paths.data / "brain_scans")
    make_zip(paths.data / "packed_masks.zip", paths.data / "brain_scans")
    make_npz(paths.data / "arrays/a.npz", {"train": 20})
    (paths.data / ".cache/x").mkdir(parents=True)
    (paths.data / "README.md").write_text("not a set")
    found = available(paths)
    phantoms, rest = found[:len(datasets.phantoms.PHANTOMS)], found[len(datasets.phantoms.PHANTOMS):]
    assert {entry.kind for entry in phantoms} == {"phantom"}
    assert rest == [DatasetEntry(str(paths.data / "arrays/a.npz"), "A", "npz"),
                    DatasetEntry(str(paths.data / "brain_scans"), "Brain scans", "folder"),
                    DatasetEntry(str(paths.data / "packed.zip"), "Packed", "zip")]
    assert all(resolve(entry.reference, paths) == entry.reference for entry in found)


def test_nothing_there_is_only_phantoms() -> None:
    assert {entry.kind for entry in available(default_paths())} == {"phantom"}


def test_opening_needs_no_torch() -> None:
    code = "import sys, kd.datasets; assert not {'torch', 'timm', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


def test_how_many_images_a_share_takes_with_and_without_the_decoded_set(paths: Paths) -> None:
    make_folder(paths.data / "scans", {"train/a": 30, "train/b": 10, "test/a": 4, "test/b": 4})
    digest = fingerprint("scans", paths)
    reckoned = [datasets.images_taken(digest, 32, share, (25, 8), paths) for share in (0.01, 0.25, 0.5, 1.0)]
    assert reckoned == [2, 6 + 2, 13 + 4, 33]
    data = open_dataset("scans", 32, paths)
    counts = data.train.counts(2)
    assert counts == [25, 8]
    for share in (0.01, 0.25, 0.5, 1.0):
        taken = len(datasets.take_fraction(data.train, share, 2))
        assert datasets.images_taken(digest, 32, share, counts, paths) == taken


def test_whole_patients_are_counted_where_the_set_is_decoded(paths: Paths) -> None:
    make_folder(paths.data / "patients", {"train/a": 12, "train/b": 12, "test/a": 4, "test/b": 4})
    rows = [f"{part}/{label}/p{index:03d}.png,{label}{part}{index // 4}" for part, count in (("train", 12), ("test", 4))
            for label in "ab" for index in range(count)]
    (paths.data / "patients" / "groups.csv").write_text("\n".join(["file,group", *rows]))
    data = open_dataset("patients", 32, paths)
    assert data.train.groups is not None
    counts = data.train.counts(2)
    found = datasets.images_taken(data.fingerprint, 32, 0.4, counts, paths)
    assert found == len(datasets.take_fraction(data.train, 0.4, 2))
    assert found % 4 == 0


def test_fingerprints_splits_and_shares_are_those_of_stored_runs(tmp_path: Path, paths: Paths) -> None:
    """Values of the first version: a stored run finds its data set, and its share of it, by them."""
    folder = tmp_path / "set"
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for number in range(10):
            (folder / label / f"{number}.ppm").write_bytes(b"P6 2 2 255\n" + bytes([number + 10 * (label == "b")] * 12))
    rows = (f"{label}/{number}.ppm,p{number // 2}{label}\n" for label in "ab" for number in range(10))
    (folder / "groups.csv").write_text("file,group\n" + "".join(rows))
    data = open_dataset(str(folder), 32, paths)
    assert data.fingerprint == "5cf2f7258f62d7b02cedfd7cdd8b48fb"
    assert data.val.names == ("a/6.ppm", "a/7.ppm", "b/2.ppm", "b/3.ppm")
    assert data.test.names == ("a/4.ppm", "a/5.ppm", "b/8.ppm", "b/9.ppm")
    assert take_fraction(data.train, 0.5, 2).tolist() == [0, 1, 4, 5, 6, 7, 10, 11]
    assert fingerprint("phantom-brain:count=60", paths) == "71666b6c16c633df"
    drawn = open_dataset("phantom-dementia:count=80", 32, paths)
    assert take_fraction(drawn.train, 0.3, len(drawn.classes)).tolist() == [
        5, 6, 8, 12, 15, 17, 19, 22, 33, 34, 36, 40, 43, 45, 47, 50]
