"""Judging an explained student's mask without a page."""

import re

import pytest
from small import distilled
from test_cli import run

from kd.paths import Paths
from kd.store.runs import Store

NUMBERS = {"explainer", "model", "kept", "left", "shown"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[str, str, str]:
    """The store's root, and the ids of an explained student and its teacher."""
    root = tmp_path_factory.mktemp("explained")
    trio = distilled(Store(Paths(root)), method="medtex")
    return str(root), trio.student.id, trio.teacher.id


def test_the_table_has_kept_and_left_of_every_map(capsys, made):
    root, student, _ = made
    code, table, err = run(capsys, "evaluate", student, "--explainers", "mask", "--mask-fidelity", "--localisation",
                           "--limit", "8", "--root", root)
    assert code == 0
    assert set(table.split("\n")[0].split()) >= NUMBERS
    lines = {tuple(line.split()[:2]) for line in table.split("\n")[1:]}
    assert lines >= {("grad-cam", "teacher"), ("grad-cam", "control"), ("mask", "student"), ("layer-cam", "teacher"),
                     ("gradient-shap", "teacher")}
    assert {line.split()[0] for line in table.split("\n")[1:] if line.strip()} >= {"centre", "random"}
    assert "The teacher and the control have no mask and are evaluated by Grad-CAM; a mask is of" in err


def test_json_has_everything_and_posthoc_alone_means_the_mask(capsys, made):
    root, student, _ = made
    code, result, _ = run(capsys, "evaluate", student, "--mask-fidelity", "--limit", "8", "--root", root, "--json")
    assert code == 0
    found = result["explanations"]["mask"]
    assert found["models"]["teacher"]["explainer"] == "grad-cam"
    assert found["models"]["student"]["explainer"] == "mask"
    maps = found["post-hoc"]["maps"]
    for score in ("kept", "left"):
        assert set(maps["mask"]["over"]["random"][score]) == {"mean", "low", "high", "n"}
    assert set(found["post-hoc"]["evidence"]["over"]["grad-cam"]) == {"pointing", "energy"}
    assert len(found["notes"]) == 2


def test_evidence_has_its_columns_and_a_sentence_per_model(capsys, made):
    root, student, _ = made
    code, table, err = run(capsys, "evaluate", student, "--explainers", "sensitivity", "--evidence", "--root", root)
    assert code == 0
    assert set(table.split("\n")[0].split()) == {"explainer", "model", "without", "mirrored", "alone", "blurred", "ms"}
    for role in ("teacher", "control", "student"):
        assert f"of the {role}'s decisions, blurring its mirrored region away" in err
    code, table, err = run(capsys, "evaluate", student, "--localisation", "--stage", "-1", "--root", root)
    assert {"pointing", "pointing_centre", "pointing_image", "without"} <= set(table.split("\n")[0].split())
    assert err.count("Blurring the evidence away keeps") == 3
    code, _, err = run(capsys, "evaluate", student, "--localisation", "--stage", "x", "--root", root)
    assert (code, "'x' is no stage" in err) == (2, True)


@pytest.mark.parametrize(
    "words", [["--explainers", "mask"], ["--mask-fidelity"], ["--mask-fidelity", "--explainers", "grad-cam"]]
)
def test_a_mask_that_nobody_has_is_refused_before_anything_is_computed(capsys, made, words):
    root, _, teacher = made
    code, out, err = run(capsys, "evaluate", teacher, *words, "--root", root)
    assert (code, out) == (2, "")
    assert re.search(r"^kd: \S+ has no mask to evaluate\. Distil a student [^\n]+grad-cam[^\n]+\n\Z", err, re.MULTILINE)


def test_a_sample_that_cannot_be_drawn_is_refused_before_anything_is_computed(capsys, made):
    root, student, _ = made
    for words, message in ((["--seed", "-1"], "seed must be 0 or more"), (["--limit", "-1"], "limit must be 0"),
                           (["--explainers", ","], "names no explainer")):
        code, _, err = run(capsys, "evaluate", student, "--explainers", "grad-cam", *words, "--root", root)
        assert code == 2 and message in err and "computing" not in err


def test_posthoc_wants_the_mask_among_the_explainers(capsys, made):
    root, student, _ = made
    code, _, err = run(capsys, "evaluate", student, "--mask-fidelity", "--explainers", "grad-cam", "--root", root)
    assert code == 2
    assert "Choose the explainer mask as well" in err
