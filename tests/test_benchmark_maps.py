"""The tables on maps, of runs with random weights on a small phantom set."""

import re
from dataclasses import replace

import numpy as np
import pytest
from made_runs import TEACHER, explained_spec, made, student_spec

from benchmarks import maps
from benchmarks.maps_runs import scenes, short, spelt
from kd.datasets import open_dataset
from kd.errors import UsageError
from kd.metrics.bootstrap import ConfidenceInterval
from kd.paths import Paths
from kd.store.files import write_json
from kd.store.groups import control_spec
from kd.store.runs import Store

DATA = "phantom-brain:count=48"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> tuple[str, str]:
    """A store with two teachers and a student, and the student's id."""
    place = tmp_path_factory.mktemp("maps")
    store = Store(Paths(place))
    data = open_dataset(DATA, 32, store.paths)
    spec = replace(TEACHER, data=data.reference, data_fingerprint=data.fingerprint)
    teacher, *_ = (made(store, replace(spec, seed=seed), data.classes) for seed in (0, 1))
    student = made(store, replace(student_spec(teacher), data=data.reference, data_fingerprint=data.fingerprint),
                   data.classes)
    for run in store:
        write_json(run.path / "evaluation.json", {"images": len(data.test)})
    return str(place), student.id


def cells(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]


def test_teacher_maps_has_a_row_for_every_stage_and_baseline_and_chooses_on_validation(root, capsys):
    maps.main(["teacher-maps", "--root", root[0], "--explainers", "grad-cam,sensitivity"])
    out = capsys.readouterr().out
    rows = {(row[0].strip("*"), row[1]): row for row in cells(out)[2:]}
    stages = [stage for name, stage in rows if name == "sensitivity"]
    assert stages == ["layer 1 (1/2)", "layer 2 (1/4)", "layer 3 (1/8)"]
    assert {"centre", "brightness", "darkness-centre", "sensitivity, random weights"} <= {name for name, _ in rows}
    assert "seeds 0, 1" in out
    assert all("±" in row[5] for row in rows.values())
    chosen = re.search(r"Chosen: (\S+) at (.+?)\. Above", out)
    by = {key: float(row[3].replace("−", "-")) for key, row in rows.items() if key[1]}
    assert max(by.values()) == next(value for (name, stage), value in by.items()
                                    if name == chosen[1] and stage.startswith(chosen[2]))


def test_evidence_has_a_row_per_model_and_a_sentence(root, capsys):
    maps.main(["evidence", "--root", root[0], "--data", open_dataset(DATA, 32, Store().paths).reference])
    out = capsys.readouterr().out
    rows = cells(out.split("\n\n")[0])[2:]
    assert sorted(row[1] for row in rows) == ["student", "teacher", "teacher"]
    assert out.count("Blurring the evidence away keeps") == 3
    assert "±" in out, "the two teachers are summed up"


def test_no_run_is_said_with_the_way_out(root):
    with pytest.raises(UsageError, match="No finished run fits"):
        maps.main(["evidence", "--root", root[0], "--data", "elsewhere"])


def test_another_sets_classes_are_numbered_as_the_models(root):
    data = open_dataset(DATA, 32, Store().paths)
    turned = scenes([data.test, data.val], data.classes, data.classes[::-1])
    plain = scenes([data.test, data.val], data.classes, data.classes)
    assert np.array_equal(turned.targets, len(data.classes) - 1 - plain.targets)
    assert len(plain) == len(plain.masks) and plain.masks.any(axis=(1, 2)).all()


def test_shares_are_spelt_without_a_leading_zero():
    assert (short(0.5), short(-0.25), short(1.0), short(0.1, signed=True)) == (".500", "−.250", "1.000", "+.100")
    assert spelt(ConfidenceInterval(0.5, 0.25, 0.75, 9)) == ".500 [.250, .750]"
    assert spelt(ConfidenceInterval(None, None, None, 0)) == "–"


def test_masks_have_a_row_for_all_seeds_of_the_same_settings(tmp_path, capsys):
    store = Store(Paths(tmp_path))
    data = open_dataset(DATA, 32, store.paths)
    named = {"data": data.reference, "data_fingerprint": data.fingerprint}
    teacher = made(store, replace(TEACHER, **named), data.classes)
    for seed in (0, 1):
        student = replace(explained_spec(teacher), **named, seed=seed)
        for spec in (student, control_spec(student)):
            made(store, spec, data.classes)
    maps.main(["masks", "--root", str(tmp_path)])
    heads, _, row = cells(capsys.readouterr().out)
    found = dict(zip(heads, row, strict=True))
    assert (found["target of the mask"], found["seeds"], found["area"]) == ("sensitivity", "2", ".199")
    assert re.fullmatch(r"[+−]\.\d{3} \[−?\.\d{3}, −?\.\d{3}\]", found["cut mask − control"])
    assert 0 <= float(found["pointing"].split(" ")[0]) <= 1
    with pytest.raises(UsageError, match="No finished run fits"):
        maps.main(["masks", "--root", str(tmp_path), "--data", "elsewhere"])
