"""MedMNIST files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_sets import make_npz

from kd.datasets import npz_arrays, open_dataset, originals
from kd.datasets.limits import LIMITS
from kd.datasets.medmnist import known_set, medmnist_digest, open_medmnist
from kd.datasets.medmnist_facts import MULTI_LABEL, SETS, known_by_content, known_by_name
from kd.errors import UsageError
from kd.paths import default_paths

CLASSES = {name: one.classes for name, one in SETS.items() if one.task != MULTI_LABEL}
COUNTS = {"train": 20, "val": 4, "test": 6}


def rewrite(path: Path, **arrays: np.ndarray) -> Path:
    """The file with some arrays replaced, or removed where None."""
    with np.load(path) as file:
        kept = {**file, **arrays}
    np.savez(path, **{name: values for name, values in kept.items() if values is not None})
    return path


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (8, 8, 1)])
def test_grey_and_rgb_keep_their_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = open_dataset(str(make_npz(tmp_path / "x.npz", COUNTS, shape=shape)), 32)
    assert {part: len(split) for part, split in data.splits.items()} == COUNTS
    assert data.train.images[:, 16, 16, 0].tolist() == list(range(20))
    assert data.train.labels.tolist() == [0, 1] * 10
    assert data.test.names == tuple(f"test/{row:06d}" for row in range(6))


@pytest.mark.parametrize("labels", ["(N,)", "(N, 1)"])
def test_labels_of_both_shapes(tmp_path: Path, labels: str) -> None:
    path = make_npz(tmp_path / "x.npz", COUNTS)
    if labels == "(N,)":
        rewrite(path, **{f"{part}_labels": np.arange(count) % 2 for part, count in COUNTS.items()})
    assert open_dataset(str(path), 32).test.counts(2) == [3, 3]


def test_a_column_major_array_is_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (20, 8, 8), np.uint8)
    path = make_npz(tmp_path / "x.npz", COUNTS)
    plain = open_dataset(str(rewrite(path, train_images=values)), 32).train.images.copy()
    turned = open_dataset(str(rewrite(path, train_images=np.asfortranarray(values))), 32)
    assert np.array_equal(turned.train.images, plain)


def test_missing_parts_are_cut_from_train(tmp_path: Path) -> None:
    path = rewrite(make_npz(tmp_path / "x.npz", COUNTS), val_images=None, val_labels=None)
    data = open_dataset(str(path), 32)
    assert [len(split) for split in data.splits.values()] == [16, 4, 6]
    assert sorted(data.train.names + data.val.names) == [f"train/{row:06d}" for row in range(20)]
    assert [int(name[6:]) for name in data.val.names] == data.val.images[:, 16, 16, 0].tolist()


@pytest.mark.parametrize("stem", [*CLASSES, "PneumoniaMNIST", "bloodmnist_224"])
def test_known_files_have_class_names(tmp_path: Path, stem: str) -> None:
    names = CLASSES[stem.lower().split("_")[0]]
    path = make_npz(tmp_path / f"{stem}.npz", dict.fromkeys(COUNTS, 3 * len(names)), classes=len(names))
    assert open_medmnist(path, default_paths()).classes == names


@pytest.mark.parametrize(("stem", "flip"), [("pneumoniamnist", False), ("organamnist", False), ("bloodmnist", True)])
def test_images_with_a_side_are_not_mirrored(tmp_path: Path, stem: str, flip: bool) -> None:
    count = len(CLASSES[stem])
    path = make_npz(tmp_path / f"{stem}.npz", dict.fromkeys(COUNTS, 3 * count), classes=count)
    assert open_medmnist(path, default_paths()).info.flip is flip


def test_other_files_number_the_classes_they_have(tmp_path: Path) -> None:
    path = make_npz(tmp_path / "mine.npz", COUNTS)
    rewrite(path, **{f"{part}_labels": np.arange(count) % 2 * 4 + 3 for part, count in COUNTS.items()})
    data = open_dataset(str(path), 32)
    assert data.classes == ("class 3", "class 7")
    assert set(data.train.labels.tolist()) == {0, 1}


def test_sixteen_bit_images_are_scaled(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (20, 8, 8)).astype(np.uint16)
    data = open_dataset(str(rewrite(make_npz(tmp_path / "x.npz", COUNTS), train_images=values)), 32)
    assert any(note.startswith("20 of 30 images are deeper than 8 bits") for note in data.report.notes)


@pytest.mark.parametrize(("arrays", "words"), [
    ({"train_labels": np.zeros((20, 14), int)}, "14 labels for each image"),
    ({"train_labels": np.full(20, 0.5)}, "whole numbers"),
    ({"train_labels": np.full(20, np.nan)}, "whole numbers"),
    ({"train_labels": np.array(["a", "b"] * 10, object)}, "Python objects"),
    ({"train_labels": np.ones((20, 3), int)}, "20 of 20 images have none or several"),
    ({"train_labels": np.arange(19) % 2}, "20 train_images but 19"),
    ({"train_labels": None}, "lacks train_labels"),
    ({"train_images": None, "train_labels": None}, "not laid out as MedMNIST"),
    ({"train_images": np.zeros((20, 8, 8, 8, 8, 8), np.uint8)}, "flat images"),
    ({"train_images": np.zeros((20, 8, 8, 8, 5), np.uint8)}, "neither images"),
    ({"train_images": np.zeros((20, 8, 8, 8), np.uint8)}, "images of one part are"),
    ({"train_images": None, "train_labels": None, "arr_0": np.zeros((4, 8, 8), np.uint8)}, "holds arr_0 uint8"),
    ({"train_images": np.array([{"a": 1}] * 20, object)}, "such files are not opened"),
    ({"train_images": np.array(["text"] * 20)}, "such files are not opened"),
])
def test_other_contents_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    path = rewrite(make_npz(tmp_path / "x.npz", COUNTS), **arrays)
    with pytest.raises(UsageError, match=words):
        open_dataset(str(path), 32)


def test_labels_beyond_the_known_classes_are_refused(tmp_path: Path) -> None:
    path = make_npz(tmp_path / "pneumoniamnist.npz", COUNTS, classes=3)
    with pytest.raises(UsageError, match="labels 0 to 2, but pneumoniamnist has the classes 0 to 1"):
        open_dataset(str(path), 32)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_npz_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="no readable .npz"):
        open_dataset(str(path), 32)


def test_damaged_bytes_are_said(tmp_path: Path) -> None:
    path = rewrite(make_npz(tmp_path / "x.npz", COUNTS))
    content = bytearray(path.read_bytes())
    content[400] ^= 0xFF  # within the stored train_images: the checksum no longer fits
    path.write_bytes(bytes(content))
    with pytest.raises(UsageError, match="train_images.*CRC"):
        open_dataset(str(path), 32)


def test_an_archive_that_is_wrong_about_where_its_arrays_lie_is_damaged(tmp_path: Path) -> None:
    path = make_npz(tmp_path / "x.npz", COUNTS)
    content = path.read_bytes()
    for changed in (b"\0" * 4 + content[4:], content[:60] + content[70:]):  # a header overwritten, bytes lost
        path.write_bytes(changed)
        with pytest.raises(UsageError, match=r"damaged in .*again|no readable"):
            open_dataset(str(path), 32)


@pytest.mark.parametrize("name", [name for name, one in SETS.items() for _ in one.sizes])
def test_a_published_set_is_known_by_its_content(name: str) -> None:
    for sizes in SETS[name].sizes:
        assert known_by_content(dict(zip(("train", "val", "test"), sizes, strict=True))) == name


def test_the_sets_are_those_that_are_published() -> None:
    flat = {name: one for name, one in SETS.items() if not one.volumes}
    assert len(flat) == 12 and len(SETS) == 18
    assert {name for name, one in flat.items() if one.task == MULTI_LABEL} == {"chestmnist"}
    assert {name for name, one in SETS.items() if not one.flip} == {
        "chestmnist", "pneumoniamnist", "organamnist", "organcmnist", "organsmnist", "organmnist3d"}
    assert SETS["organmnist3d"].classes[0] == "liver" and SETS["organamnist"].classes[0] == "bladder"
    assert {name for name, one in flat.items() if one.channels == 3} == {
        "pathmnist", "dermamnist", "retinamnist", "bloodmnist"}


def test_the_file_name_says_nothing_where_the_content_does(tmp_path: Path) -> None:
    path = make_npz(tmp_path / "x.npz", dict(zip(("train", "val", "test"), SETS["breastmnist"].sizes[0], strict=True)))
    assert known_set(path) == ("breastmnist", "its numbers of images")
    opened = open_medmnist(path, default_paths())
    assert opened.classes == SETS["breastmnist"].classes
    copy = path.rename(tmp_path / "bloodmnist.npz")
    assert open_medmnist(copy, default_paths()).fingerprint == opened.fingerprint


@pytest.mark.parametrize("stem", ["my_pneumoniamnist", "pneumoniamnist-1a2b3c4d", "PneumoniaMNIST_224",
                                  "2024 pneumoniamnist"])
def test_a_name_that_the_program_or_a_person_changed_still_tells(tmp_path: Path, stem: str) -> None:
    opened = open_medmnist(make_npz(tmp_path / f"{stem}.npz", COUNTS), default_paths())
    assert (opened.classes, opened.info.flip) == (("normal", "pneumonia"), False)
    assert any("Read as pneumoniamnist" in note for note in opened.report.notes)


def test_a_name_within_a_word_tells_nothing() -> None:
    assert known_by_name("notpathmnist") == "" and known_by_name("pathmnists") == ""


def test_several_findings_an_image_are_refused_in_words(tmp_path: Path) -> None:
    path = make_npz(tmp_path / "chestmnist.npz", COUNTS)
    with pytest.raises(UsageError, match="is chestmnist, with 14 labels for each image .atelectasis"):
        open_dataset(str(path), 32)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_one_hot_labels_are_read_and_said(tmp_path: Path, kind: type) -> None:
    labels = {f"{part}_labels": np.eye(2, dtype=kind)[np.arange(count) % 2] for part, count in COUNTS.items()}
    data = open_dataset(str(rewrite(make_npz(tmp_path / "x.npz", COUNTS), **labels)), 32)
    assert data.train.labels.tolist() == [0, 1] * 10
    assert any("one-hot" in note for note in data.report.notes)


def test_labels_may_be_names(tmp_path: Path) -> None:
    labels = {f"{part}_labels": np.array(["dog", "cat"])[np.arange(count) % 2] for part, count in COUNTS.items()}
    data = open_dataset(str(rewrite(make_npz(tmp_path / "x.npz", COUNTS), **labels)), 32)
    assert data.classes == ("cat", "dog") and data.train.labels.tolist() == [1, 0] * 10


def test_channels_may_come_first_and_alpha_lies_over_black(tmp_path: Path) -> None:
    first = make_npz(tmp_path / "first.npz", COUNTS, shape=(3, 8, 8))
    assert open_dataset(str(first), 32).train.images[:, 16, 16, 0].tolist() == list(range(20))
    values = np.full((20, 8, 8, 4), 200, np.uint8)
    values[:, :, :4, 3], values[:, :, 4:, 3] = 0, 255
    alpha = {f"{part}_images": values[:count] for part, count in COUNTS.items()}
    data = open_dataset(str(rewrite(make_npz(tmp_path / "alpha.npz", COUNTS), **alpha)), 32)
    assert data.train.images[0, 16, 4].tolist() == [0] * 3 and data.train.images[0, 16, 28].tolist() == [200] * 3


@pytest.mark.parametrize("shape", [(8, 6, 7), (8, 6, 7, 1), (1, 8, 6, 7), (8, 6, 7, 3)])
def test_a_volume_is_read_by_slice_and_stays_whole(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = make_npz(tmp_path / "x.npz", COUNTS, shape=shape)
    volumes = np.broadcast_to(np.arange(8, dtype=np.uint8).reshape((1,) * (1 + shape.index(8)) + (8,) + (1,) * (
        len(shape) - shape.index(8) - 1)), (20, *shape)) * 10
    arrays = {f"{part}_images": volumes[:count] for part, count in COUNTS.items()}
    data = open_dataset(str(rewrite(path, **arrays)), 32)
    assert data.train.images[:4, 16, 16, 0].tolist() == [20, 30, 40, 50]
    assert len(data.train) == 80 and data.train.groups is not None and len(set(data.train.groups)) == 20
    assert any("volume of 8 slices: the 4 in the middle" in note for note in data.report.notes)
    found = originals(data)(["test/000003/004"], 512)
    assert found[0] is not None and found[0].shape == (7, 7, 3) and (found[0][3, 3] == 40).all()


def test_images_and_labels_by_keras_names(tmp_path: Path) -> None:
    with np.load(make_npz(tmp_path / "x.npz", COUNTS)) as file:
        renamed = {f"{'x' if 'images' in name else 'y'}_{name.split('_')[0]}": values for name, values in file.items()}
    np.savez(tmp_path / "y.npz", **renamed)
    assert [len(split) for split in open_dataset(str(tmp_path / "y.npz"), 32).splits.values()] == [20, 4, 6]


def test_an_npz_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_arrays, "LIMITS", replace(LIMITS, free=1000, ratio=2))
    path = tmp_path / "x.npz"
    np.savez_compressed(path, train_images=np.zeros((500, 28, 28), np.uint8), train_labels=np.arange(500) % 2)
    with pytest.raises(UsageError, match="so do bombs"):
        open_dataset(str(path), 32)


def test_the_digest_follows_content_and_the_name_that_decides_the_classes(tmp_path: Path) -> None:
    paths = default_paths()
    one, same = (make_npz(tmp_path / name / "x.npz", COUNTS) for name in ("a", "b"))
    known = make_npz(tmp_path / "pneumoniamnist.npz", COUNTS)
    assert medmnist_digest(one, paths) == medmnist_digest(same, paths) != medmnist_digest(known, paths)
    assert medmnist_digest(one, paths) != medmnist_digest(make_npz(one, {**COUNTS, "val": 5}), paths)


def test_the_real_file_opens(shared: Path) -> None:
    data = open_dataset(str(shared / "data/medmnist/pneumoniamnist.npz"), 28)
    assert data.classes == ("normal", "pneumonia")
    assert [len(split) for split in data.splits.values()] == [2428, 270, 468]
    with np.load(shared / "data/medmnist/pneumoniamnist.npz") as file:
        assert np.array_equal(data.test.images[..., 0], file["test_images"])
