"""Audits: every planted fault is found, nothing is found where none is, and the verdict says what to beat."""

import re
from pathlib import Path

import numpy as np
import pytest
from lanes import slow
from made_leaks import (
    make_clean,
    plant_bad_images,
    plant_copies,
    plant_format,
    plant_label,
    plant_named_patients,
    plant_patients,
    plant_text,
)

from kd.audit import findings, report
from kd.audit.audit import audit
from kd.audit.findings import FAULT, NOTE, WARNING, Finding
from kd.audit.report import AuditReport
from kd.errors import Stopped, UsageError
from kd.paths import Paths, default_paths
from kd.progress import no_progress


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> Paths:
    return Paths(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory, paths: Paths) -> AuditReport:
    return audit(str(make_clean(tmp_path_factory.mktemp("sets") / "clean")), paths)


@pytest.fixture(scope="module")
def leaking(tmp_path_factory, paths: Paths) -> AuditReport:
    """The audit of a set with every fault that can be planted beside the others."""
    root = make_clean(tmp_path_factory.mktemp("sets") / "leaking")
    plant_patients(root)
    plant_copies(root)
    plant_label(root)
    plant_bad_images(root)
    plant_text(root)
    return audit(str(root), paths)


def found(made: AuditReport, key: str) -> Finding:
    return next(one for one in made.findings if one.key == key)


def test_a_clean_set_has_no_fault_and_its_verdict_names_the_number_to_beat(clean: AuditReport) -> None:
    assert {one.key for one in clean.findings} <= {"small-test", "small-val", "patients-unknown", "labels"}
    assert not clean.clusters
    best = max((one for one in clean.yardsticks if one.key in ("majority", "nearest", "pixels", "files")),
               key=lambda one: one.accuracy["mean"])
    assert clean.to_beat == best
    assert clean.verdict.startswith("Scores on this data set can be believed only with care: the test part has only 24")
    assert f"; a model must beat {100 * best.accuracy['mean']:.1f} % ({best.title}" in clean.verdict


def test_copies_across_parts_are_a_fault_with_the_images_named(leaking: AuditReport) -> None:
    copies = found(leaking, "copies-test")
    assert copies.level == FAULT
    assert set(copies.images) == {"test/ill/again.png", "test/well/mirrored.jpg"}
    assert copies.clause == ("2 of 26 (8 %) of the test images are copies of training or validation images (1 pairs "
                             "identical, 1 near copies, 1 of them mirrored)")
    assert set(found(leaking, "contradictions").images) == {"train/ill/ill-train-02.png", "train/well/wrong.png"}
    assert leaking.believable == report.NO
    assert {frozenset(one) for one in leaking.clusters} == {
        frozenset({"train/ill/ill-train-00.png", "test/ill/again.png"}),
        frozenset({"train/well/well-train-01.png", "test/well/mirrored.jpg"}),
        frozenset({"train/ill/ill-train-02.png", "train/well/wrong.png"})}
    kinds = {row["first"].rpartition("/")[2]: (row["kind"], row["mirrored"]) for row in leaking.pairs}
    assert kinds["ill-train-00.png"] == ("identical", False)
    assert kinds["well-train-01.png"] == ("near copy", True)


def test_patients_in_two_parts_are_a_fault(leaking: AuditReport) -> None:
    both = found(leaking, "patients-train-test")
    assert both.level == FAULT
    assert both.images == ("test/ill/ill-test-00.png",)
    assert not {"patients-val-test", "patients-unknown"} & {one.key for one in leaking.findings}
    assert leaking.verdict.startswith("Scores on this data set cannot be believed: 1 patients have images in both")


def test_patients_in_two_parts_by_the_files_names_are_a_fault(tmp_path: Path, paths: Paths) -> None:
    root = make_clean(tmp_path / "named", 12, 6, 6)
    plant_named_patients(root, shared=True)
    both = found(audit(str(root), paths), "patients-train-test")
    assert both.level == FAULT
    assert both.clause == ("2 patients (by the files' names, as ill/ill_subj000) have images in both train and test, "
                           "with 6 of 12 (50 %) of the test images")


def test_of_patients_in_files_names_that_are_kept_apart_it_is_said_what_a_random_split_would_do(
        tmp_path: Path, paths: Paths) -> None:
    root = make_clean(tmp_path / "named", 12, 6, 6)
    plant_named_patients(root, shared=False)
    made = audit(str(root), paths)
    named = found(made, "patients-named")
    assert named.level == NOTE
    # 16 patients of 3 images; a quarter of the images is test, half train: 1 - .5³ - .75³ + .25³ of them
    assert "split at random, about 8 patients would have images in both train and test" in named.clause
    assert "patients-unknown" not in {one.key for one in made.findings}


def test_every_fault_and_warning_has_a_few_words_for_cards_and_tables(leaking: AuditReport, clean: AuditReport) -> None:
    assert leaking.brief.startswith("Audit: scores on this data set cannot be believed (patients in both train and ")
    assert "copies of training images in the test part" in leaking.brief
    assert clean.brief == "Audit: scores on this data set can be believed only with care (a small test part)."
    source = Path(findings.__file__).read_text()
    notes = {"patients-unknown", "patients-named", "copies-within", "look-alikes", "series", "labels", "imbalance",
             "extreme"}
    of_parts = {"patients-train-test", "patients-val-test", "patients-train-val", "copies-test", "copies-val",
                "small-test"}
    assert set(re.findall(r'Finding\("([a-z-]+)"', source)) - notes | of_parts == set(findings.IN_SHORT)


def test_flat_dark_and_unreadable_images_are_named(leaking: AuditReport) -> None:
    assert found(leaking, "flat").images == ("train/ill/flat.png",)
    assert found(leaking, "extreme").images == ("train/ill/dark.png",)
    assert found(leaking, "unreadable").images == ("train/ill/broken.png",)


def test_text_on_one_class_is_a_warning_with_its_shares(leaking: AuditReport) -> None:
    made = found(leaking, "marks")
    assert made.level == WARNING
    assert len(made.images) >= 10
    assert all("train/ill" in name for name in made.images)
    assert "well 0 %" in made.clause


def test_a_wrong_label_is_in_doubt(leaking: AuditReport) -> None:
    doubted = {one["image"]: (one["label"], one["likely"]) for one in leaking.suspects}
    assert doubted["train/well/moved.png"] == ("well", "ill")
    assert all(one["given"] <= 0.05 for one in leaking.suspects)


def test_a_format_that_tells_the_class_is_a_shortcut_and_imbalance_and_small_parts_are_said(
        tmp_path: Path, paths: Paths) -> None:
    root = make_clean(tmp_path / "small", 16, 6, 8)
    plant_format(root)
    for path in sorted((root / "train/well").iterdir())[4:]:
        path.unlink()
    made = audit(str(root), paths)
    assert found(made, "shortcut").level == WARNING
    assert next(one for one in made.yardsticks if one.key == "files").accuracy["mean"] == 1.0
    assert "16 images of 'ill' and 4 of 'well'" in found(made, "imbalance").clause
    assert found(made, "small-test").level == WARNING
    assert found(made, "small-val").level == NOTE
    assert not made.suspects  # too few of a class to tell


def test_the_shortcut_option_of_a_phantom_has_a_finding_of_its_own(paths: Paths) -> None:
    planted = audit("phantom-brain:count=100,shortcut=glioma", paths)
    assert "'glioma'" in found(planted, "corner").clause
    assert "patients-unknown" not in {one.key for one in planted.findings}  # each image is of its own


def test_a_report_is_kept_by_the_set_s_content_and_read_as_it_was(leaking: AuditReport, paths: Paths) -> None:
    assert report.load(leaking.fingerprint, paths) == leaking
    stored = report.answers(leaking.fingerprint, paths)
    assert stored is not None
    assert len(stored["names"]) == 26
    accuracy = float(np.mean(stored["pixels"] == stored["labels"]))
    assert accuracy == next(one for one in leaking.yardsticks if one.key == "pixels").accuracy["mean"]
    assert report.load("another", paths) is None
    assert leaking.verdict in report.as_text(leaking)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 0}'])
def test_a_damaged_report_counts_as_none(content: str) -> None:
    file = report.folder("abc", default_paths()) / "audit.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert report.load("abc", default_paths()) is None


def test_an_audit_stops_when_asked_and_keeps_nothing(tmp_path: Path) -> None:
    root = make_clean(tmp_path / "set", 10, 6, 6)
    asked = iter([False] * 8 + [True] * 1000)
    with pytest.raises(Stopped):
        audit(str(root), default_paths(), no_progress, lambda: next(asked))
    assert not list((default_paths().cache / "audits").glob("*/audit.json"))


def test_what_cannot_be_opened_is_said() -> None:
    with pytest.raises(UsageError, match="There is no data set"):
        audit("/nowhere", default_paths())


# What the README of the folder says of each set, beside what it does not: mirrored copies across parts.
@pytest.mark.parametrize(("name", "keys", "beaten_by", "about"), slow(
    ("breast_ultrasound", {"marks"}, "pixels", 0.60),
    ("brain_tumor", {"copies-test", "shortcut"}, "nearest", 0.74),
    ("eye_disease", {"shortcut"}, "files", 0.74),
    ("alzheimer", {"series", "patients-train-val"}, "pixels", 0.40)))
def test_real_sets_as_their_notes_say(shared: Path, name: str, keys: set[str], beaten_by: str, about: float) -> None:
    made = audit(str(shared / "data" / name), default_paths())
    assert keys <= {one.key for one in made.findings}
    assert made.beat == beaten_by
    assert made.to_beat.accuracy["mean"] == pytest.approx(about, abs=0.03)
