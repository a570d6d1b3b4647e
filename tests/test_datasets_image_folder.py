"""Class folders on this machine."""

import os
from pathlib import Path

import pytest
from made_sets import make_folder, make_image, make_mask

from kd.datasets import open_dataset
from kd.datasets.image_folder import folder
from kd.datasets.image_folder.folder import folder_digest, open_folder, scan
from kd.errors import UsageError
from kd.paths import Paths, default_paths

PARTS = {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2}


def test_a_folder_opens_with_everything_in_its_place(tmp_path: Path) -> None:
    data = open_dataset(str(make_folder(tmp_path / "my_set", PARTS)), 32)
    assert (data.name, data.info.title, data.classes) == ("my_set", "My set", ("a", "b"))
    assert {part: split.counts(2) for part, split in data.splits.items()} == {
        "train": [5, 5], "val": [1, 1], "test": [2, 2]}
    assert data.train.evidence is None and data.train.groups is None
    assert data.test.names == ("test/a/p000.png", "test/a/p001.png", "test/b/p000.png", "test/b/p001.png")


def test_hidden_files_and_others_are_ignored_and_counted(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    for name in (".DS_Store", "train/a/._p000.png", "train/a/Thumbs.db", "readme.txt"):
        (root / name).write_text("x")
    (root / "__MACOSX/train/a").mkdir(parents=True)
    make_image(root / "__MACOSX/train/a/1.png")
    make_image(root / ".git/1.png")
    found = scan(root)
    assert len(found.images) == 16
    assert found.ignored == 4
    assert "4 hidden files" in open_folder(root, Paths(tmp_path)).report.notes[0]


def test_difficult_names_work(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "größe und maß", PARTS)
    for name in ("train/a/мозг 1.PNG", "train/a/ünï (2).JpEg", "train/a/%d{x}'\".png"):
        make_image(root / name)
    data = open_dataset(str(root), 32)
    assert len(data.train) + len(data.val) == 15


def test_names_that_are_no_utf8_do_not_crash(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    raw = os.fsencode(root / "train" / "a") + b"/caf\xe9.png"
    try:
        os.rename(os.fsencode(make_image(root / "train/a/x.png")), raw)
    except OSError:
        pytest.skip("this file system holds only UTF-8 names")
    data = open_dataset(str(root), 32)
    names = data.train.names + data.val.names
    assert "train/a/caf\\udce9.png" in names
    assert all(name.encode("utf-8") for name in names)


def test_links_to_files_and_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    (root / "train/a/link.png").symlink_to(make_image(tmp_path / "elsewhere.png"))
    (root / "train/c").symlink_to(make_folder(tmp_path / "far", {"x": 3}) / "x", target_is_directory=True)
    (root / "train/a/loop").symlink_to(root / "train", target_is_directory=True)
    found = scan(root)
    assert {"train/a/link.png", "train/c/p000.png"} <= set(found.images)
    assert len(found.images) == 16 + 1 + 3


def test_what_cannot_be_opened_is_named_and_not_waited_for(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    os.mkfifo(root / "train/a/pipe.png")
    (root / "train/a/gone.png").symlink_to(tmp_path / "nowhere.png")
    data = open_dataset(str(root), 32)
    assert {name: reason.split(" (")[0] for name, reason in data.report.skipped} == {
        "train/a/pipe.png": "it is not a regular file", "train/a/gone.png": "the file cannot be opened"}


def test_a_bad_file_is_named_with_its_reason(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    (root / "train/a/bad.jpg").write_bytes(b"no image")
    (root / "test/b/half.png").write_bytes((root / "test/b/p000.png").read_bytes()[:40])
    data = open_dataset(str(root), 32)
    assert [name for name, _ in data.report.skipped] == ["test/b/half.png", "train/a/bad.jpg"]
    assert "not an image" in dict(data.report.skipped)["train/a/bad.jpg"]
    assert data.test.counts(2) == [2, 2]


def test_masks_beside_a_set_are_found_by_path_and_stem(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS, size=(24, 12))
    make_mask(tmp_path / "s_masks/train/a/p000.bmp", (24, 12), (0, 0, 12, 12))
    make_mask(tmp_path / "s_masks/test/b/p001.png", (24, 12), (0, 0, 24, 6))
    make_mask(tmp_path / "s_masks/test/b/p999.png", (24, 12))
    data = open_dataset(str(root), 24)
    parts = {name: (split, index) for split in data.splits.values() for index, name in enumerate(split.names)}
    assert sum(split.has_evidence.sum() for split in data.splits.values()) == 2
    split, index = parts["train/a/p000.png"]
    assert (split.evidence[index][6:18, :12] == 255).all() and split.evidence[index].sum() == 255 * 12 * 12
    split, index = parts["test/b/p001.png"]
    assert (split.evidence[index][6:12] == 255).all() and split.evidence[index].sum() == 255 * 6 * 24
    split, index = parts["test/b/p000.png"]
    assert not split.has_evidence[index] and split.evidence[index].max() == 0
    assert any("1 masks of 3 belong to no image" in warning for warning in data.report.warnings)


def test_a_bad_mask_costs_the_mask_and_not_the_image(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    make_mask(tmp_path / "s_masks/test/a/p000.png")
    (tmp_path / "s_masks/test/a/p001.png").write_bytes(b"broken")
    data = open_dataset(str(root), 32)
    assert data.test.has_evidence.tolist() == [True, False, False, False]
    assert any("1 masks could not be used (first test/a/p001.png" in warning for warning in data.report.warnings)


def test_patients_stay_together_and_are_told(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", {"a": 20, "b": 20})
    rows = [f"{label}/p{index:03d}.png,{label}{index // 4}" for label in "ab" for index in range(20)]
    (root / "groups.csv").write_text("\n".join(["file,group", *rows]))
    data = open_dataset(str(root), 32)
    seen = [set(split.groups) for split in data.splits.values()]
    assert all(seen) and sum(map(len, seen)) == len(set.union(*seen)) == 10
    assert any("whole patients" in note for note in data.report.notes)


def test_patients_on_both_sides_of_a_given_split_are_warned_of(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    names = [f"{part}/p{index:03d}.png" for part, count in PARTS.items() for index in range(count)]
    rows = [f"{name},{'ann' if name.endswith('p000.png') else name}" for name in names]
    (root / "groups.csv").write_text("\n".join(["file,group", *rows]))
    assert any("1 patients have images in both train and test (first ann)" in warning
               for warning in open_dataset(str(root), 32).report.warnings)


def test_nameless_images_are_not_one_patient(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    (root / "groups.csv").write_text("file,group\ntrain/a/p000.png,ann\n")
    data = open_dataset(str(root), 32)
    assert sum(len(set(split.groups)) for split in data.splits.values()) == 16


def test_facts_beside_the_images_are_read(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    (root / "dataset.json").write_text('{"title": "Mine", "flip": false}')
    data = open_dataset(str(root), 32)
    assert (data.info.title, data.info.flip) == ("Mine", False)


@pytest.mark.parametrize(("counts", "words"), [
    ({"a": 5}, "at least two class folders"),
    ({"train/a": 5, "train/b": 0, "test/a": 2}, "'b' has no image to train on"),
    ({"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2, "test/c": 2}, "test has the class 'c'"),
    ({"train/a": 1, "train/b": 1, "test/a": 1, "test/b": 1}, "too few images"),
])
def test_unsound_folders_say_what_to_do(tmp_path: Path, counts: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_dataset(str(make_folder(tmp_path / "s", counts)), 32)


def test_a_class_whose_files_are_all_bad_is_empty(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", PARTS)
    for path in (root / "train/b").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(UsageError, match=r"class 'b'.*6 files could not be read, first train/b/"):
        open_dataset(str(root), 32)


def test_an_empty_class_in_test_is_a_warning(tmp_path: Path) -> None:
    data = open_dataset(str(make_folder(tmp_path / "s", {**PARTS, "test/b": 0})), 32)
    assert any("'b' has no image in test" in warning for warning in data.report.warnings)


def test_the_digest_is_of_content_and_not_of_place(tmp_path: Path) -> None:
    paths = default_paths()
    one, two = (make_folder(tmp_path / name, PARTS) for name in ("one", "two"))
    assert folder_digest(one, paths) == folder_digest(two, paths)
    (two / "notes.txt").write_text("no image")
    assert folder_digest(one, paths) == folder_digest(two, paths)


@pytest.mark.parametrize("change", ["content", "name", "image", "class", "groups", "facts", "mask"])
def test_whatever_is_learned_from_changes_the_digest(tmp_path: Path, change: str) -> None:
    root, paths = make_folder(tmp_path / "s", PARTS), default_paths()
    before = folder_digest(root, paths)
    {"content": lambda: make_image(root / "train/a/p000.png", 77),
     "name": lambda: (root / "train/a/p000.png").rename(root / "train/a/q.png"),
     "image": lambda: make_image(root / "train/a/new.png"),
     "class": lambda: (root / "train/c").mkdir(),
     "groups": lambda: (root / "groups.csv").write_text("file,group\n"),
     "facts": lambda: (root / "dataset.json").write_text("{}"),
     "mask": lambda: make_mask(tmp_path / "s_masks/train/a/p000.png")}[change]()
    assert folder_digest(root, paths) != before


def test_the_root_of_the_file_system_has_a_place_for_masks_too() -> None:
    assert folder.masks_beside(Path("/")) == Path("/_masks")


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        folder.scan(tmp_path / "nowhere")
