"""Folders laid out as public downloads are: what lies in them is read as what it is, or asked about."""

import csv
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from made_sets import make_image, make_mask, make_zip
from PIL import Image

from kd.datasets import Dataset, open_dataset
from kd.datasets.image_folder import names
from kd.datasets.image_folder.folder import scan
from kd.datasets.image_folder.inner_masks import looks_like_mask
from kd.datasets.image_folder.layout import WhichFolder, reading
from kd.datasets.image_folder.zip_archive import scan as scan_zip
from kd.errors import UsageError

ACCENT, DECOMPOSED = "Hépatite", "He\u0301patite"


def fill(root: Path, folders: Iterable[str], count: int = 6, start: int = 0) -> Path:
    for number, folder in enumerate(folders):
        for index in range(count):
            make_image(root / folder / f"s{start + index:03d}.png", 10 * number + index)
    return root


def opened(root: Path) -> Dataset:
    return open_dataset(str(root), 16)


def total(data: Dataset) -> int:
    return sum(len(split) for split in data.splits.values())


def with_evidence(data: Dataset) -> int:
    return sum(int(split.has_evidence.sum()) for split in data.splits.values() if split.has_evidence is not None)


def table(path: Path, header: str, rows: Iterable[Iterable[object]]) -> Path:
    out = StringIO()
    csv.writer(out).writerows([header.split(","), *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(out.getvalue())
    return path


@pytest.mark.parametrize("name", ["{}_mask.png", "{}-mask.png", "{}_seg.png", "{}_segmentation.bmp", "mask_{}.png",
                                  "{}_Mask.PNG", "{} mask.png"])
def test_masks_beside_their_images_are_evidence(tmp_path: Path, name: str) -> None:
    root = fill(tmp_path / "s", ("benign", "malignant"))
    for label in ("benign", "malignant"):
        for index in range(5):
            make_mask(root / label / name.format(f"s{index:03d}"))
    data = opened(root)
    assert (data.classes, total(data), with_evidence(data)) == (("benign", "malignant"), 12, 10)
    assert any("10 files are masks" in note for note in data.report.notes)


def test_several_masks_of_an_image_are_joined(tmp_path: Path) -> None:
    root = fill(tmp_path / "s", ("benign", "malignant"))
    make_mask(root / "benign/s000_mask.png", box=(0, 0, 6, 12))
    make_mask(root / "benign/s000_mask_1.png", box=(6, 0, 12, 12))
    data = opened(root)
    [drawn] = [split.evidence[row] for split in data.splits.values() for row in np.flatnonzero(split.has_evidence)]
    assert (drawn == 255).all()


@pytest.mark.parametrize("folder", ["masks", "Mask", "lung masks", "segmentations", "annotations"])
def test_a_folder_of_masks_inside_each_class(tmp_path: Path, folder: str) -> None:
    root = fill(tmp_path / "s", ("a/images", "b/images"))
    for label in "ab":
        for index in range(6):
            make_mask(root / label / folder / f"s{index:03d}.png")
    data = opened(root)
    assert (data.classes, total(data), with_evidence(data)) == (("a", "b"), 12, 12)
    assert data.train.groups is None


def test_a_folder_of_masks_beside_the_classes_is_no_class(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for number, label in enumerate("ab"):
        for index in range(6):
            make_image(root / label / f"{label}{index}.png", 10 * number + index)
    make_mask(root / "masks/a1.png")
    make_mask(root / "masks/zzz.png")
    data = opened(root)
    assert (data.classes, with_evidence(data)) == (("a", "b"), 1)
    assert any("1 masks of 2 belong to no image" in warning for warning in data.report.warnings)


def test_what_is_called_a_mask_and_is_none_stays_an_image(tmp_path: Path) -> None:
    root = fill(tmp_path / "s", ("with_mask", "without_mask"))
    assert opened(root).classes == ("with_mask", "without_mask")
    photo = np.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    faces = fill(tmp_path / "t", ("no_mask",))
    for index in range(6):
        (faces / "mask").mkdir(exist_ok=True)
        Image.fromarray(photo + np.uint8(index)).save(faces / f"mask/s{index:03d}.png")
    data = opened(faces)
    assert data.classes == ("mask", "no_mask")
    assert any("called masks but hold images" in warning for warning in data.report.warnings)


def test_a_mask_is_told_from_an_image_by_what_it_holds(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert looks_like_mask(make_mask(tmp_path / "m.png")) and not looks_like_mask(tmp_path / "noise.png")


@pytest.mark.parametrize(("train", "test"), [
    ("train_set", "test_set"), ("Train Set", "Test Set"), ("train-images", "test-images"), ("trainset", "testset"),
    ("training_data", "testing_data"), ("brain_train", "brain_test"), ("images_train", "images_test"),
    ("OCT Train", "OCT Test"), ("fold_1", "fold_2"), ("fold1", "fold2")])
def test_parts_by_other_names(tmp_path: Path, train: str, test: str) -> None:
    root = fill(tmp_path / "s", (f"{train}/a", f"{train}/b", f"{test}/a", f"{test}/b"))
    data = opened(root)
    assert (data.classes, len(data.test)) == (("a", "b"), 12)
    assert all(name.startswith(test) for name in data.test.names)


def test_of_many_folds_the_last_tests_and_it_is_said(tmp_path: Path) -> None:
    data = opened(fill(tmp_path / "s", [f"fold_{number}/{label}" for number in (1, 2, 10) for label in "ab"]))
    assert {name.split("/")[0] for name in data.test.names} == {"fold_10"}
    assert any("fold_10 tests" in note for note in data.report.notes)


def test_dev_is_validation(tmp_path: Path) -> None:
    data = opened(fill(tmp_path / "s", [f"{part}/{label}" for part in ("train", "dev", "test") for label in "ab"]))
    assert len(data.val) == 12 and all(name.startswith("dev") for name in data.val.names)


@pytest.mark.parametrize("names_", [("AugmentedSet", "OriginalSet"), ("raw_data", "processed_data")])
def test_editions_are_asked_about(tmp_path: Path, names_: tuple[str, str]) -> None:
    root = fill(tmp_path / "s", [f"{top}/{label}" for top in names_ for label in ("Mild", "None")])
    with pytest.raises(WhichFolder, match="Mild, None several times") as found:
        opened(root)
    assert set(found.value.choices) == set(names_)
    assert opened(root / names_[1]).classes == ("Mild", "None")


def test_a_set_once_more_inside_itself_is_asked_about(tmp_path: Path) -> None:
    root = fill(fill(tmp_path / "s", ("no", "yes")), ("whole/No", "whole/Yes"))
    with pytest.raises(WhichFolder, match="no, yes twice: 12 images in the folder itself and 12 in whole"):
        opened(root)


def test_parts_once_more_inside_are_left_out_and_said(tmp_path: Path) -> None:
    root = fill(tmp_path / "s", [f"{where}{part}/{label}" for where in ("", "again/") for part in ("train", "test")
                                 for label in "ab"])
    data = opened(root)
    assert total(data) == 24
    assert any("again holds the same folders once more" in warning for warning in data.report.warnings)


def test_kinds_of_image_below_every_class_are_no_classes_and_said(tmp_path: Path) -> None:
    data = opened(fill(tmp_path / "s", [f"{label}/{zoom}" for label in "ab" for zoom in ("40X", "100X", "near")]))
    assert data.classes == ("a", "b") and data.train.groups is None
    assert any("taken as kinds of image" in warning for warning in data.report.warnings)


@pytest.mark.parametrize("patients", [[f"p{number}" for number in range(12)], ["ann", "bea", "cid", "dov"] * 3])
@pytest.mark.parametrize("deep", ["", "series/", "images/"])
def test_folders_below_the_classes_are_patients(tmp_path: Path, patients: list[str], deep: str) -> None:
    root = fill(tmp_path / "s", [f"{'ab'[number % 2]}/{patient}{number}/{deep}" for number, patient in
                                 enumerate(patients)], count=4)
    data = opened(root)
    seen = [set(split.groups or ()) for split in data.splits.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 12
    assert any("12 folders below the classes are taken as patients" in note for note in data.report.notes)


def test_one_patient_a_class_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="12 images of only 2 patients.*each class needs at least three"):
        opened(fill(tmp_path / "s", ("a/p1", "b/p2")))


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("folders", [("images_part_1", "images_part_2"), ("images",), ("1", "2"), ("",)])
def test_a_label_table_beside_folders_that_say_nothing_is_used(tmp_path: Path, folders: tuple[str, ...],
                                                               archive: bool) -> None:
    root, rows = tmp_path / "s", []
    for number in range(24):
        make_image(root / folders[number % len(folders)] / f"ISIC_{number:04d}.png", number)
        rows.append((f"ISIC_{number:04d}", ("NA", "nv")[number // 2 % 2], f"{number // 3:03d}"))
    table(root / "metadata.csv", "image_id,dx,patient_id", rows)
    data = opened(make_zip(tmp_path / "s.zip", root) if archive else root)
    assert (data.classes, total(data)) == (("NA", "nv"), 24)
    groups = {group for split in data.splits.values() for group in split.groups}
    assert groups == {f"{number:03d}" for number in range(8)}
    assert any("classes from dx, patients from patient_id" in note for note in data.report.notes)


def test_a_table_may_give_parts_and_one_hot_classes(tmp_path: Path) -> None:
    root, rows = tmp_path / "s", []
    for number in range(30):
        make_image(root / f"images/{number:02d}.png", number)
        rows.append((f"{number:02d}.png", number % 2, 1 - number % 2, "train" if number < 20 else "test"))
    table(root / "truth.csv", "image,MEL,NV,split", rows)
    data = opened(root)
    assert (data.classes, len(data.test)) == (("MEL", "NV"), 10)
    assert data.test.labels.tolist() == [0] * 5 + [1] * 5


def test_several_labels_an_image_are_no_classes(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for number in range(6):
        make_image(root / f"images/{number}.png", number)
    table(root / "truth.csv", "image,mass,nodule", [(f"{number}.png", 1, 1) for number in range(6)])
    with pytest.raises(UsageError, match="several labels"):
        opened(root)


def test_class_folders_stand_and_the_table_is_mentioned(tmp_path: Path) -> None:
    root = fill(tmp_path / "s", ("benign", "malignant"))
    table(root / "meta.csv", "file,diagnosis", [(f"{label}/s{index:03d}.png", f"sub{index % 2}")
                                                for label in ("benign", "malignant") for index in range(6)])
    data = opened(root)
    assert data.classes == ("benign", "malignant")
    assert any("meta.csv names the images too" in note for note in data.report.notes)


def test_two_labels_for_one_image_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for number in range(6):
        make_image(root / f"images/{number}.png", number)
    rows = [(f"{number}.png", "ab"[number % 2]) for number in range(6)]
    table(root / "labels.csv", "file,label", [*rows, ("0.png", "b")])
    with pytest.raises(UsageError, match="says of images/0.png both a and b"):
        opened(root)


def test_the_table_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for number in range(12):
        make_image(root / f"images/{number}.png", number)
    rows = [(f"{number}.png", "ab"[number % 2]) for number in range(12)]
    table(root / "labels.csv", "file,label", rows)
    before = opened(root).fingerprint
    table(root / "labels.csv", "file,label", [("0.png", "b"), *rows[1:]])
    assert opened(root).fingerprint != before


@pytest.mark.parametrize("prefix", ["brain/", ""])
def test_a_wrapped_set_with_a_preview_and_sidecars_beside_it(tmp_path: Path, prefix: str) -> None:
    root = fill(tmp_path / "s", ("brain/a", "brain/b"), count=12)
    make_image(root / "preview.png")
    table(root / "groups.csv", "file,group", [(f"{prefix}{label}/s{index:03d}.png", f"{label}{index // 3}")
                                              for label in "ab" for index in range(12)])
    (root / "dataset.json").write_text('{"title": "Outer"}')
    data = opened(root)
    assert (data.classes, data.info.title) == (("a", "b"), "Outer")
    assert len({group for split in data.splits.values() for group in split.groups}) == 8


def test_accents_composed_or_not_are_one_class(tmp_path: Path) -> None:
    root = fill(tmp_path / "s", (f"train/{ACCENT}", "train/x", f"test/{DECOMPOSED}", "test/x"))
    rows = [(f"train/{DECOMPOSED}/s{index:03d}.png", f"g{index}") for index in range(6)]
    table(root / "groups.csv", "file,group", rows)
    make_mask(tmp_path / f"s_masks/train/{DECOMPOSED}/s000.png")
    data = opened(root)
    assert data.classes == (ACCENT, "x")
    assert data.test.counts(2) == [6, 6] and with_evidence(data) == 1
    assert {f"g{index}" for index in range(6)} <= {group for split in data.splits.values() for group in split.groups}


def test_a_class_that_differs_in_case_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="test has the class 'glioma'.*training has 'Glioma'"):
        opened(fill(tmp_path / "s", ("train/Glioma", "train/b", "test/glioma", "test/b")))


def test_test_images_without_classes_are_said(tmp_path: Path) -> None:
    root = fill(fill(tmp_path / "s", ("train/a", "train/b")), ("test",))
    assert any("test holds 6 images but no class folders" in warning for warning in opened(root).report.warnings)
    other = fill(tmp_path / "t", ("train/a", "train/b", "test/unknown"))
    data = opened(other)
    assert data.classes == ("a", "b")
    assert any("6 images lie in a folder that is no class" in warning for warning in data.report.warnings)


@pytest.mark.parametrize("archive", [False, True])
def test_images_without_endings_are_known_by_their_first_bytes(tmp_path: Path, archive: bool) -> None:
    root = fill(tmp_path / "s", ("a", "b"))
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(""))
    (root / "a/README").write_text("no image")
    assert total(opened(make_zip(tmp_path / "s.zip", root) if archive else root)) == 12


@pytest.mark.parametrize(("ending", "words"), [(".dcm", "8 files .dcm: bring DICOM"), (".zip", "unpack them first"),
                                               (".npz", "give one of the .npz files"), (".txt", "8 files .txt")])
def test_a_folder_without_images_says_what_it_holds(tmp_path: Path, ending: str, words: str) -> None:
    for label in "ab":
        for index in range(4):
            (tmp_path / "s" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "s" / label / f"{index}{ending}").write_bytes(b"x")
    with pytest.raises(UsageError, match=words):
        opened(tmp_path / "s")


def test_one_file_under_two_patients_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path / "s", ("a", "b"))
    table(root / "groups.csv", "file,group", [("a/s000.png", "ann"), ("a/s000.png", "bea")])
    with pytest.raises(UsageError, match="puts a/s000.png under two patients, ann and bea"):
        opened(root)


@pytest.mark.parametrize(("name", "part"), [("train", "train"), ("Training Set", "train"), ("validation-images", "val"),
                                            ("test", "test"), ("attest", None), ("contest data", None),
                                            ("train_1", None), ("data", None), ("valley", None)])
def test_a_part_is_known_in_any_spelling(name: str, part: str | None) -> None:
    assert names.part_of(name) == part


@pytest.mark.parametrize("archive", [False, True])
def test_another_reading_of_the_same_files_has_another_fingerprint(tmp_path: Path, archive: bool) -> None:
    plain = fill(tmp_path / "plain", ("train/a", "train/b", "test/a", "test/b"))
    masked = fill(tmp_path / "masked", ("a", "b"))
    make_mask(masked / "a/s000_mask.png")
    readings = [reading(scan_zip(make_zip(root.with_suffix(".zip"), root)) if archive else scan(root))
                for root in (plain, masked, fill(tmp_path / "people", ("a/1", "a/2", "b/3", "b/4")))]
    assert readings == ["", "masks", "patients"]
