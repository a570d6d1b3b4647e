"""What the names of files say."""

from collections import Counter
from contextlib import nullcontext
from pathlib import PurePosixPath

import pytest

from kd.datasets.base import Skipped
from kd.datasets.image_folder.layout import Tree, is_image, parse, printable
from kd.errors import UsageError


def tree(*files: str, folders: tuple[str, ...] = (), refused: tuple[Skipped, ...] = ()) -> Tree:
    above = {str(parent) for name in files for parent in PurePosixPath(name).parents if str(parent) != "."}
    images = tuple(sorted(name for name in files if is_image(name)))
    return Tree(images, tuple(sorted({*above, *folders})), tuple(name for name in files if name not in images), 0,
                refused, lambda: nullcontext(str.encode))


@pytest.mark.parametrize(("train", "test", "val"), [("train", "test", "val"), ("Training", "Testing", "Validation"),
                                                    ("training", "testing", "validation"), ("TRAIN", "Test", "valid")])
def test_parts_in_every_spelling(train: str, test: str, val: str) -> None:
    found = parse(tree(f"{train}/b/1.png", f"{train}/a/1.png", f"{test}/a/2.png", f"{val}/b/3.png"), "x")
    assert found.classes == ("a", "b")
    assert Counter((entry.part, entry.label) for entry in found.entries) == {
        ("train", 0): 1, ("train", 1): 1, ("test", 0): 1, ("val", 1): 1}


def test_one_root_of_classes_has_no_parts() -> None:
    found = parse(tree("a/1.png", "b/deep/down/2.JPG"), "x")
    assert [(entry.label, entry.part) for entry in found.entries] == [(0, None), (1, None)]


def test_empty_class_folders_are_classes_too() -> None:
    assert parse(tree("train/a/1.png", folders=("train/b", "test", "test/c")), "x").classes == ("a", "b", "c")


@pytest.mark.parametrize("prefix", ["w/", "w/v/", "w/v/u/"])
def test_wrapping_folders_are_passed(prefix: str) -> None:
    found = parse(tree(f"{prefix}train/a/1.png", f"{prefix}train/b/2.png"), "x")
    assert found.root == prefix
    assert [entry.path for entry in found.entries] == ["train/a/1.png", "train/b/2.png"]


@pytest.mark.parametrize(("prefix", "masks"), [("", "set_masks/"), ("set/", "set_masks/"), ("set/", "set/set_masks/"),
                                               ("w/set/", "w/set_masks/")])
def test_masks_within_the_tree_are_no_class(prefix: str, masks: str) -> None:
    found = parse(tree(f"{prefix}a/1.png", f"{prefix}b/1.png", f"{masks}a/1.png"), "x")
    assert (found.root, found.masks, found.classes) == (prefix, masks, ("a", "b"))
    assert len(found.entries) == 2


def test_images_outside_classes_are_counted() -> None:
    found = parse(tree("train/a/1.png", "train/b/1.png", "cover.png", "train/loose.png", "extra/z/1.png"), "x")
    assert len(found.entries) == 2
    assert "3 images lie outside" in found.notes[0]


@pytest.mark.parametrize(("files", "words"), [
    ((), "holds no image"),
    (("notes/readme.txt",), "holds no image"),
    (("1.png", "2.png"), "no class folders"),
    (("images/1.png", "masks/1.png"), "nothing of classes"),
    (("train/a/1.png", "Training/a/1.png"), "join them into one folder train"),
    (("test/a/1.png", "test/b/1.png"), "no train folder"),
    (("one/train/a/1.png", "two/train/a/1.png"), "whole data sets .one, two.: choose one"),
])
def test_other_layouts_are_refused_with_a_way_out(files: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(tree(*files), "the set")


def test_one_class_of_loose_images_is_one_class() -> None:
    assert parse(tree("cats/1.png", "cats/2.png"), "x").classes == ("cats",)


def test_names_that_are_no_utf8_can_be_shown() -> None:
    raw = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert printable(raw) == "caf\\udce9"
    assert parse(tree(f"a/{raw}.png", f"{raw}/1.png"), "x").classes == ("a", "caf\\udce9")
