"""Class folders in a zip, also in hostile ones."""

import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_sets import make_folder, make_image, make_mask, make_zip

from kd.datasets import open_dataset
from kd.datasets.image_folder import zip_archive
from kd.datasets.image_folder.zip_archive import archive_digest, scan
from kd.datasets.limits import LIMITS
from kd.errors import UsageError
from kd.paths import default_paths

PARTS = {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2}


def make_set(tmp_path: Path, prefix: str = "") -> Path:
    return make_zip(tmp_path / "s.zip", make_folder(tmp_path / "s", PARTS), prefix)


def add(path: Path, name: str, content: bytes) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as file:
        warnings.simplefilter("ignore")  # a name that stands twice is meant
        file.writestr(name, content)


@pytest.mark.parametrize("prefix", ["", "s/", "Kaggle set/s/"])
def test_a_zip_holds_the_same_images_as_its_folder(tmp_path: Path, prefix: str) -> None:
    zipped = open_dataset(str(make_set(tmp_path, prefix)), 32)
    plain = open_dataset(str(tmp_path / "s"), 32)
    assert zipped.name == "s" and zipped.classes == plain.classes
    for part in ("train", "val", "test"):
        one, other = zipped.splits[part], plain.splits[part]
        assert one.names == other.names
        assert np.array_equal(one.images, other.images)


def test_masks_and_patients_come_with_a_zip(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    (root / "groups.csv").write_text("file,group\ntest/a/p000.png,ann\n")
    make_mask(tmp_path / "m/test/a/p000.png")
    path = make_zip(tmp_path / "s.zip", root, "s/")
    make_zip(tmp_path / "s_masks.zip", tmp_path / "m")
    data = open_dataset(str(path), 32)
    assert data.test.has_evidence.tolist() == [True, False, False, False]
    assert data.test.groups is not None and data.test.groups[0] == "ann"


@pytest.mark.parametrize("prefix", ["s_masks/", "w/s_masks/"])
def test_masks_may_lie_inside_the_zip(tmp_path: Path, prefix: str) -> None:
    path = make_set(tmp_path, prefix.replace("s_masks", "s"))
    mask = make_mask(tmp_path / "m.png").read_bytes()
    add(path, f"{prefix}test/a/p000.png", mask)
    data = open_dataset(str(path), 32)
    assert data.classes == ("a", "b")
    assert data.test.has_evidence.tolist() == [True, False, False, False]


def test_masks_in_a_wrapped_zip_beside(tmp_path: Path) -> None:
    path = make_set(tmp_path)
    make_mask(tmp_path / "m/test/a/p000.png")
    make_zip(tmp_path / "s_masks.zip", tmp_path / "m", "s_masks/")
    assert open_dataset(str(path), 32).test.has_evidence.sum() == 1


@pytest.mark.parametrize("name", ["../../train/a/evil.png", "/train/a/evil.png", "train/../../evil.png",
                                  "C:/train/a/evil.png", "..\\train\\a\\evil.png"])
def test_names_that_lead_out_are_refused_and_named(tmp_path: Path, name: str) -> None:
    path = make_set(tmp_path)
    add(path, name, make_image(tmp_path / "e.png").read_bytes())
    before = {item for item in tmp_path.rglob("*") if "root" not in item.parts}
    data = open_dataset(str(path), 32)
    assert [reason for _, reason in data.report.skipped] == ["its name leads out of the archive"]
    assert sum(map(len, data.splits.values())) == 16
    assert {item for item in tmp_path.rglob("*") if "root" not in item.parts} == before


def test_system_litter_is_ignored(tmp_path: Path) -> None:
    path = make_set(tmp_path, "s/")
    for name in ("__MACOSX/s/train/a/._p000.png", "s/.DS_Store", "s/train/a/notes.txt"):
        add(path, name, b"x")
    found = scan(path)
    assert (len(found.images), found.ignored, found.refused) == (16, 3, ())


def test_backslashes_are_folders(tmp_path: Path) -> None:
    path = make_set(tmp_path)
    add(path, "train\\a\\windows.png", make_image(tmp_path / "e.png").read_bytes())
    assert "train/a/windows.png" in scan(path).images


def test_an_entry_too_large_is_skipped_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_set(tmp_path)
    add(path, "train/a/big.bmp", b"\0" * 5000)
    monkeypatch.setattr(zip_archive, "LIMITS", replace(LIMITS, file=4000))
    data = open_dataset(str(path), 32)
    assert [name for name, _ in data.report.skipped] == ["train/a/big.bmp"]
    assert "unpacks to" in data.report.skipped[0][1]


def test_a_bomb_is_refused_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(10):
            file.writestr(f"train/a/{number}.bmp", b"\0" * 10**6)
    monkeypatch.setattr(zip_archive, "LIMITS", replace(LIMITS, free=10**6))
    with pytest.raises(UsageError, match="zip bombs"):
        open_dataset(str(path), 32)


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_set(tmp_path)
    monkeypatch.setattr(zip_archive, "LIMITS", replace(LIMITS, entries=10))
    with pytest.raises(UsageError, match="entries"):
        scan(path)


def test_a_header_that_lies_about_the_size_is_a_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "s.zip"
    make_set(tmp_path)
    content = bytearray(path.read_bytes())
    entry = zipfile.ZipFile(path).getinfo("train/a/p000.png")
    at = content.rindex(b"train/a/p000.png") - 46  # its record in the central directory
    content[at + 24:at + 28] = (entry.file_size - 5).to_bytes(4, "little")
    path.write_bytes(bytes(content))
    data = open_dataset(str(path), 32)
    assert [name for name, _ in data.report.skipped] == ["train/a/p000.png"]
    assert "damaged in the zip" in data.report.skipped[0][1]


def test_damaged_bytes_cost_one_image(tmp_path: Path) -> None:
    path = make_set(tmp_path)
    entry = zipfile.ZipFile(path).getinfo("train/a/p003.png")
    content = bytearray(path.read_bytes())
    at = entry.header_offset + 60
    content[at:at + 8] = b"\xff" * 8
    path.write_bytes(bytes(content))
    assert [name for name, _ in open_dataset(str(path), 32).report.skipped] == ["train/a/p003.png"]


def test_a_password_is_said(tmp_path: Path) -> None:
    path = make_set(tmp_path)
    content = path.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")
    path.write_bytes(content)
    with pytest.raises(UsageError, match="password"):
        open_dataset(str(path), 32)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.zip"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"s\.zip is no readable zip"):
        open_dataset(str(path), 32)


def test_the_digest_follows_the_zip_and_its_masks(tmp_path: Path) -> None:
    path, paths = make_set(tmp_path), default_paths()
    first = archive_digest(path, paths)
    make_mask(tmp_path / "m/test/a/p000.png")
    make_zip(tmp_path / "s_masks.zip", tmp_path / "m")
    second = archive_digest(path, paths)
    add(path, "train/a/new.png", make_image(tmp_path / "e.png").read_bytes())
    assert len({first, second, archive_digest(path, paths)}) == 3
