"""Imports: each kind of source as a named set, shown before, stopped and gone on with, hostile ones refused."""

import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_scans import dicom_set, nifti
from made_sets import make_folder, make_image, make_mask, make_npz, make_zip
from PIL import Image

from kd.datasets import available, open_dataset
from kd.datasets.importing import archives, dicom_pixels, nifti_files
from kd.datasets.importing.preview import ImportOptions
from kd.datasets.importing.run import import_set
from kd.datasets.importing.understand import understand
from kd.datasets.limits import LIMITS
from kd.datasets.named_sets import history_of
from kd.errors import Stopped, UsageError
from kd.paths import Paths

CLASSES = {"a": 12, "b": 12}


def tarred(path: Path, root: Path) -> Path:
    with tarfile.open(path, "w:gz") as tape:
        tape.add(root, "set")
    return path


def labelled(root: Path, extra: str = "") -> Path:
    make_folder(root / "images", {"": 24})
    rows = [f"images/p{number:03d}.png,{'ab'[number % 2]},{number // 4:03d},{'test' if number > 19 else 'train'}"
            for number in range(24)]
    (root / "labels.csv").write_text("\n".join(["path,label,patient,split", *rows]) + "\n" + extra)
    return root / "labels.csv"


def sources(tmp_path: Path) -> dict[str, Path]:
    plain = make_folder(tmp_path / "plain", CLASSES)
    for number in range(6):
        nifti(tmp_path / f"nii/{'ab'[number % 2]}/v{number}.nii.gz", np.random.default_rng(number).normal(
            100, 9, (9, 8, 7)).astype(np.float32))
    return {"folder": plain, "zip": make_zip(tmp_path / "z.zip", plain), "tar": tarred(tmp_path / "t.tar.gz", plain),
            "npz": make_npz(tmp_path / "n.npz", {"train": 20, "val": 4, "test": 6}),
            "table": labelled(tmp_path / "csv"), "dicom": dicom_set(tmp_path / "dicom"), "nifti": tmp_path / "nii",
            "dicom in a zip": make_zip(tmp_path / "d.zip", dicom_set(tmp_path / "dz", patients=3))}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "npz", "table", "dicom", "nifti", "dicom in a zip"])
def test_each_kind_of_source_becomes_a_named_set(tmp_path: Path, kind: str) -> None:
    paths, source = Paths(tmp_path / "root"), sources(tmp_path)[kind]
    seen = understand(str(source), ImportOptions(), paths)
    assert not (paths.data / "mine").exists(), "looking writes nothing"
    place, preview = import_set(str(source), "mine", ImportOptions(), paths)
    assert preview.describe() | {"skipped": []} == seen.describe() | {"skipped": []}
    data = open_dataset("mine", 16, paths)
    assert {part: split.counts(2) for part, split in data.splits.items()} == {
        part: list(counts.values()) for part, counts in seen.counts().items()}
    assert json.loads(json.dumps(preview.describe()))["classes"] == list(data.classes)
    assert history_of(place)[0]["kind"] == "import" and "mine" in {Path(one.reference).name for one in available(paths)}


def test_a_table_keeps_every_label_patient_and_part(tmp_path: Path) -> None:
    path = labelled(tmp_path / "csv")
    path.write_text(path.read_text().replace(",a,", ",NA,"))
    _, preview = import_set(str(path), "mine", ImportOptions(), Paths(tmp_path / "root"))
    assert preview.classes == ("NA", "b") and preview.patients == 6
    assert {image.group for image in preview.images} == {f"{number:03d}" for number in range(6)}
    assert {image.part for image in preview.images if image.group == "005"} == {"test"}


def test_all_faults_of_a_table_are_told_at_once(tmp_path: Path) -> None:
    path = labelled(tmp_path / "csv", "nowhere.png,a,9,train\nimages/p000.png,b,9,train\nimages/p001.png,,9,middle\n")
    with pytest.raises(UsageError) as found:
        understand(str(path), ImportOptions(), Paths(tmp_path))
    for words in ("faults: ", "line 26, path: 'nowhere.png' names no image here",
                  "line 27, path: 'images/p000.png' names an image that an earlier line names",
                  "line 28, label: '' is empty", "line 28, split: 'middle' is no part"):
        assert words in str(found.value)


def test_a_table_reaches_nothing_outside_its_folder(tmp_path: Path) -> None:
    secret = make_image(tmp_path / "secret.png")
    path = labelled(tmp_path / "csv", f"../secret.png,a,1,train\n{secret},b,1,train\n")
    with pytest.raises(UsageError, match="2 faults"):
        understand(str(path), ImportOptions(), Paths(tmp_path))


def test_masks_come_along(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", CLASSES)
    for number in range(12):
        make_mask(root / f"a/p{number:03d}_mask.png")
    paths = Paths(tmp_path / "root")
    _, preview = import_set(str(root), "mine", ImportOptions(), paths)
    data = open_dataset("mine", 16, paths)
    assert preview.masks == 12
    assert sum(int(split.has_evidence.sum()) for split in data.splits.values() if split.has_evidence is not None) == 12


def test_options_rename_merge_leave_out_and_cut_anew(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", {f"{part}/{label}": count for part, count in (("train", 12), ("test", 4))
                                         for label in "abc"})
    paths = Paths(tmp_path / "root")
    seen = understand(str(root), ImportOptions(rename={"c": "b"}, resplit=True, test=0.5, val=0.25), paths)
    assert seen.classes == ("a", "b")
    counts = {part: sum(by.values()) for part, by in seen.counts().items()}
    assert counts == {"train": 12, "val": 12, "test": 24}
    assert understand(str(root), ImportOptions(without=("train/c", "test/c")), paths).classes == ("a", "b")
    with pytest.raises(UsageError, match="no class 'z' to rename"):
        understand(str(root), ImportOptions(rename={"z": "b"}), paths)


def test_a_stopped_import_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, paths = make_folder(tmp_path / "s", CLASSES), Paths(tmp_path / "root")
    asked = iter([False] * 10 + [True] * 99)
    with pytest.raises(Stopped):
        import_set(str(root), "mine", ImportOptions(), paths, should_stop=lambda: next(asked))
    part = paths.data / ".mine.part" / "set"
    written = {path.relative_to(part): path.stat().st_mtime_ns for path in part.rglob("*.png")}
    assert 0 < len(written) < 24 and not (paths.data / "mine").exists()
    shares = []
    place, _ = import_set(str(root), "mine", ImportOptions(), paths, lambda phase, share: shares.append((phase, share)))
    again = {path.relative_to(place): path.stat().st_mtime_ns for path in place.rglob("*.png")}
    assert len(again) == 24 and max(share for _, share in shares) == 1.0
    assert min(share for phase, share in shares if phase == "Importing") >= len(written) / 24
    assert all(again[path] == before for path, before in written.items())


@pytest.mark.parametrize("change", ["source", "options", "decoders"])
def test_another_import_of_the_name_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    paths, root, options = Paths(tmp_path / "root"), dicom_set(tmp_path / "s", slices=1), ImportOptions()
    asked = iter([False] * 8 + [True] * 99)
    with pytest.raises(Stopped):
        import_set(str(root), "mine", options, paths, should_stop=lambda: next(asked))
    assert len(list((paths.data / ".mine.part").rglob("*.png"))) > 1
    if change == "source":
        root = dicom_set(tmp_path / "t", patients=3, slices=1, side=20)
    elif change == "options":
        options = ImportOptions(window="1000,2000")
    else:
        monkeypatch.setattr(dicom_pixels, "decoders", lambda: "another decoder 9")
    place, preview = import_set(str(root), "mine", options, paths)
    wanted, _ = import_set(str(root), "alone", options, paths)
    both = [{path.relative_to(one): path.read_bytes() for path in one.rglob("*.png")} for one in (place, wanted)]
    assert both[0] == both[1] and len(both[0]) == len(preview.images)


def test_unpacked_archives_are_cleared_but_not_under_an_import(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "root")
    seen = understand(str(tarred(tmp_path / "t.tar.gz", make_folder(tmp_path / "s", CLASSES))), ImportOptions(), paths)
    with archives.kept(seen.unpacked):
        assert archives.remove_unpacked(paths) == 0 < archives.unpacked_bytes(paths)
    assert archives.remove_unpacked(paths, age=3600) == 0, "it was looked at just now"
    assert archives.remove_unpacked(paths) > 0 == archives.unpacked_bytes(paths)
    with pytest.raises(UsageError, match="import it again"), archives.kept(seen.unpacked):
        pass
    assert import_set(str(tmp_path / "t.tar.gz"), "mine", ImportOptions(), paths)[1].images


def test_nothing_is_left_of_what_cannot_be_read(tmp_path: Path) -> None:
    root, paths = labelled(tmp_path / "csv").parent, Paths(tmp_path / "root")
    for path in (root / "images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(UsageError, match="Nothing was written"):
        import_set(str(root / "labels.csv"), "mine", ImportOptions(), paths)
    assert not list(paths.data.glob("*mine*"))


@pytest.mark.parametrize(("name", "words"), [("nowhere", "There is nothing at"), ("notes.txt", "nothing that is read"),
                                             ("bad.zip", "no readable"), ("bad.tar", "cannot be unpacked")])
def test_other_sources_say_what_is_taken(tmp_path: Path, name: str, words: str) -> None:
    if name != "nowhere":
        (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(UsageError, match=words):
        understand(str(tmp_path / name), ImportOptions(), Paths(tmp_path))


def test_one_class_is_not_enough_and_that_is_said(tmp_path: Path) -> None:
    for number in range(3):
        nifti(tmp_path / f"nii/v{number}.nii", np.ones((8, 8, 8), np.float32))
    with pytest.raises(UsageError, match="class"):
        understand(str(tmp_path / "nii"), ImportOptions(), Paths(tmp_path))


# --- archives

def hostile_tar(path: Path) -> Path:
    png = io.BytesIO()
    Image.new("L", (8, 8), 99).save(png, "PNG")
    with tarfile.open(path, "w") as tape:
        for label in "ab":
            for number in range(8):
                entry = tarfile.TarInfo(f"s/{label}/{number}.png")
                entry.size = len(png.getvalue())
                tape.addfile(entry, io.BytesIO(png.getvalue()))
        for name in ("../out.png", "/abs.png", "s/a/" + "x" * 300 + ".png"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            tape.addfile(entry, io.BytesIO(b"evil"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            entry = tarfile.TarInfo(f"s/a/link{kind!r}.png")
            entry.type, entry.linkname = kind, "/etc/passwd"
            tape.addfile(entry)
        inner = tarfile.TarInfo("s/inner.zip")
        inner.size = 4
        tape.addfile(inner, io.BytesIO(b"PK\x03\x04"))
    return path


def test_a_hostile_tar_gives_its_good_files_and_reaches_nothing_else(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "root")
    _, preview = import_set(str(hostile_tar(tmp_path / "h.tar")), "mine", ImportOptions(), paths)
    reasons = [bad.reason for bad in preview.skipped]
    assert len(preview.images) == 16
    assert sum("leads out" in reason for reason in reasons) == 2 and sum("link" in reason for reason in reasons) == 4
    assert any("archive within" in reason for reason in reasons) and any("too long" in reason for reason in reasons)
    assert not (tmp_path / "out.png").exists() and not list(tmp_path.rglob("abs.png"))
    assert not [path for path in paths.root.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_bomb_leaves_nothing(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LIMITS", replace(LIMITS, free=10**5, ratio=3))
    path = tmp_path / f"b.{'tar.gz' if kind == 'tar' else 'zip'}"
    if kind == "tar":
        with tarfile.open(path, "w:gz") as tape:
            entry = tarfile.TarInfo("a/0.dcm")
            entry.size = 10**7
            tape.addfile(entry, io.BytesIO(b"\0" * 10**7))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("a/0.dcm", b"\0" * 10**7)
    with pytest.raises(UsageError, match="so do bombs"):
        archives.unpacked(path, Paths(tmp_path))
    assert not list((tmp_path / "data").rglob("*.dcm"))


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LIMITS", replace(LIMITS, entries=5))
    with pytest.raises(UsageError, match="more than 5 entries"):
        archives.unpacked(tarred(tmp_path / "t.tar.gz", make_folder(tmp_path / "s", CLASSES)), Paths(tmp_path))


# --- volumes

def marked(flip: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """A volume with a bright corner at right, front, head in canonical orientation, stored with these axes turned."""
    values = np.full((8, 10, 12), 20, np.float32)
    values[6:, 8:, 9:] = 200
    affine = np.diag([1.0, 1, 1, 1])
    for axis in flip:
        values = np.flip(values, axis)
        affine[axis, axis], affine[axis, 3] = -1, values.shape[axis] - 1
    return np.ascontiguousarray(values), affine


@pytest.mark.parametrize("flip", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize(("plane", "place"), [("axial", (0, 0)), ("coronal", (0, 0)), ("sagittal", (0, 0))])
def test_every_plane_is_canonical_whatever_the_file(tmp_path: Path, flip: tuple[int, ...], plane: str,
                                                    place: tuple[int, int]) -> None:
    values, affine = marked(flip)
    path = nifti(tmp_path / "v.nii.gz", values, affine)
    last = nifti_files.plan_volume(path, None, "v", plane, 1)[-1]
    [found] = list(nifti_files.read_slices([last], plane))
    pixels = np.asarray(Image.open(io.BytesIO(found.image)))  # type: ignore[union-attr]
    assert pixels[place] == pixels.max() and pixels[-1, -1] == pixels.min()
    assert pixels.shape == {"axial": (10, 8), "coronal": (12, 8), "sagittal": (12, 10)}[plane]


def test_slices_get_their_class_from_a_mask_with_every_label(tmp_path: Path) -> None:
    for number in range(6):
        values = np.random.default_rng(number).normal(100, 9, (8, 8, 8)).astype(np.float32)
        mask = np.zeros((8, 8, 8), np.float32)
        mask[2:4, 2:4, 3], mask[4:6, 4:6, 3] = 1, 2
        nifti(tmp_path / f"s/v{number}.nii.gz", values)
        nifti(tmp_path / f"s/v{number}_seg.nii.gz", mask.astype(np.int16))
    paths = Paths(tmp_path / "root")
    _, preview = import_set(str(tmp_path / "s"), "mine", ImportOptions(), paths)
    assert preview.classes == ("drawn", "not drawn") and preview.patients == 6
    data = open_dataset("mine", 8, paths)
    drawn = [split.evidence[row].sum() // 255 for split in data.splits.values() if split.evidence is not None
             for row in range(len(split)) if split.labels[row] == 0]
    assert drawn == [8] * 6, "four pixels of each of the two labels"


def test_labels_stored_as_scaled_floats_stay_labels(tmp_path: Path) -> None:
    import nibabel

    labels = np.zeros((4, 4, 4), np.float32)
    labels[0], labels[1] = 1, 3
    image = nibabel.Nifti1Image(labels, np.eye(4))
    image.set_data_dtype(np.int16)
    path = tmp_path / "m.nii"
    nibabel.save(image, path)
    assert np.unique(nifti_files._values(nifti_files._opened(path), labels=True)).tolist() == [0, 1, 3]


@pytest.mark.parametrize("damage", ["truncated", "no header", "four axes", "huge", "colours"])
def test_broken_volumes_are_skipped_with_a_reason(tmp_path: Path, damage: str) -> None:
    for number in range(6):
        nifti(tmp_path / f"s/{'ab'[number % 2]}/v{number}.nii", np.random.default_rng(number).normal(
            100, 9, (8, 8, 8)).astype(np.float32))
    bad = tmp_path / "s/a/bad.nii"
    if damage == "four axes":
        nifti(bad, np.ones((4, 4, 4, 3), np.float32))
    elif damage == "colours":
        nifti(bad, np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    else:
        content = bytearray((tmp_path / "s/a/v0.nii").read_bytes())
        content[40:48] = np.array([3, 30000, 30000, 30000], "<i2").tobytes() if damage == "huge" else content[40:48]
        bad.write_bytes(bytes(content[:600 if damage == "truncated" else 100 if damage == "no header" else None]))
    seen = understand(str(tmp_path / "s"), ImportOptions(), Paths(tmp_path / "root"))
    assert [one.name for one in seen.skipped] == ["a/bad.nii"]


def test_an_unknown_plane_is_refused(tmp_path: Path) -> None:
    nifti(tmp_path / "s/a/v.nii", np.ones((4, 4, 4), np.float32))
    nifti(tmp_path / "s/b/w.nii", np.ones((4, 4, 4), np.float32))
    with pytest.raises(UsageError, match="no plane 'oblique'"):
        understand(str(tmp_path / "s"), ImportOptions(plane="oblique"), Paths(tmp_path))
