"""The files behind a data set's images, as they are on disk."""

from pathlib import Path

import pytest
from made_sets import make_folder, make_mask, make_npz, make_zip

from kd.datasets import files, open_dataset

PARTS = {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2}


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_files_are_given_byte_for_byte_with_their_masks(tmp_path: Path, form: str) -> None:
    root = make_folder(tmp_path / "set", PARTS)
    drawn = make_mask(tmp_path / "set_masks/test/a/p000.png")
    if form == "zip":
        make_zip(tmp_path / "zipped.zip", root)
        make_zip(tmp_path / "zipped_masks.zip", tmp_path / "set_masks")
    data = open_dataset(str(root if form == "folder" else tmp_path / "zipped.zip"), 32)
    read = files(data)
    assert read is not None
    first, unknown, second = read(["test/a/p000.png", "test/a/none.png", "test/b/p001.png"])
    assert first is not None and second is not None
    assert unknown is None
    assert (first.image, first.ending) == ((root / "test/a/p000.png").read_bytes(), ".png")
    assert (first.mask, first.mask_ending) == (drawn.read_bytes(), ".png")
    assert (second.image, second.mask) == ((root / "test/b/p001.png").read_bytes(), None)


def test_drawn_sets_arrays_and_changed_folders_have_none(tmp_path: Path) -> None:
    assert files(open_dataset("phantom-brain:count=40", 32)) is None
    assert files(open_dataset(str(make_npz(tmp_path / "rows.npz", {"train": 20, "test": 6})), 32)) is None
    root = make_folder(tmp_path / "set", PARTS)
    data = open_dataset(str(root), 32)
    (root / "train/a/p000.png").unlink()
    assert files(data) is None
    (root / "train/a").rename(tmp_path / "gone")
    (root / "train/b").rename(tmp_path / "gone too")
    assert files(data) is None
