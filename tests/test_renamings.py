"""A store written under the names of e7c9cc5 (format 1) is read under today's."""

import json
from pathlib import Path

import pytest
from fabricate import summarise

from kd import renamings
from kd.experiments.sweep import Sweep, find, planned_cells, sweeps
from kd.experiments.sweep.explanation_times import read
from kd.experiments.sweep.results import table
from kd.methods import METHODS, complete
from kd.spec import RunSpec
from kd.store.groups import control_of, replicates_of
from kd.store.runs import FINISHED, Run, Store

TEACHER, CONTROL = "phantom_brain-resnet18-supervised-93b5b3f05f", "phantom_brain-plain3-supervised-fa4e516baa"
# As `spec.json` held them, with the folders' names: hashes over the settings' old names.
COMMON = {"data": "phantom-brain:count=160", "data_fingerprint": "8bbb53e0d4efcc63", "image_size": 32,
          "data_fraction": 1.0, "model": "plain", "depth": 3, "width": 16, "base": "", "explainer_depth": 0,
          "explainer_width": 8, "explainer_fill": "mean", "pretrained": "none", "pretrained_fingerprint": "",
          "normalisation": "model", "method": "supervised", "method_args": {}, "teacher": "", "epochs": 2,
          "batch_size": 16, "learning_rate": 0.002, "weight_decay": 0.05, "schedule": "one-cycle", "views": 2,
          "augmentation": 0.25, "precision": "auto", "seed": 0, "device": "auto", "threads": 0}
MASKED = {"alpha": 0.1, "bottleneck": 1.5, "features": 0.0, "joint": 0.5, "keep": 2.5, "rate": 0.05, "relaxation": 0.4,
          "remove": 1.25, "samples": 1.0, "temperature": 4.0, "variation": 0.1}
STUDENTS = {
    "phantom_brain-plain3-hint-decc432431": {"method": "hint", "method_args": {"weight": 100.0}},
    "phantom_brain-plain3-kd_standardised-dec3da72f9": {
        "method": "kd-standardised", "method_args": {"hard_weight": 0.1, "temperature": 2.0, "weight": 9.0}},
    "phantom_brain-explained_plain3-medtex-f31404af3a": {
        "method": "medtex", "method_args": MASKED, "explainer_depth": 2, "explainer_fill": "blur"}}
SWEEP = {
    "sweep": {"base": {"data": "phantom-brain:count=160", "teacher": TEACHER, "student": "plain", "depth": 3,
                       "explainer_depth": 3, "explainer_width": 8, "explainer_fill": "mean", "method": "kd",
                       "method_args": {}, "epochs": 2, "image_size": 32, "views": 2, "stretch": 0.5},
              "axes": {"method": ["kd", "hint"], "alpha": [0.4, 0.7]}},
    "created": 1795817990.0,
    "cells": [{"number": 1, "settings": {"method": "kd", "alpha": 0.4}, "teacher": TEACHER,
               "pairs": [[CONTROL, "phantom_brain-plain3-kd-gone"]]},
              {"number": 3, "settings": {"method": "hint"}, "teacher": TEACHER,
               "pairs": [[CONTROL, "phantom_brain-plain3-hint-decc432431"]]}]}


@pytest.fixture
def old(own_root: Path) -> Store:
    store = Store()
    specs = {TEACHER: {"model": "resnet18"}, CONTROL: {}, **{
        name: {"teacher": TEACHER, **changes} for name, changes in STUDENTS.items()}}
    for name, changes in specs.items():
        folder = store.path / name
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(json.dumps({**COMMON, **changes}))
        summarise(Run(folder), classes=["a", "b"])
    (store.path / "sweeps").mkdir()
    (store.path / "sweeps" / "phantom_brain-method-alpha-0123456789.json").write_text(json.dumps(SWEEP))
    (store.path / "sweeps" / "times").mkdir()
    (store.path / "sweeps" / "times" / "phantom_brain-method-alpha-0123456789.json").write_text(json.dumps(
        {"milliseconds": {"plain3": 1.5}, "protocol": {}}))
    return store


def test_every_old_run_is_listed_and_finished(old):
    assert {run.id for run in old} == {TEACHER, CONTROL, *STUDENTS}
    assert {run.status for run in old} == {FINISHED}


@pytest.mark.parametrize("name", [name for name in STUDENTS if "medtex" not in name])
def test_methods_and_their_settings_are_known_by_todays_names(old, name):
    spec = old[name].spec
    assert spec.method in METHODS
    assert complete(spec.method, spec.method_args) == spec.method_args, "nothing is missing, nothing is unknown"


def test_every_old_value_stands_under_its_new_name(old):
    spec = old["phantom_brain-explained_plain3-medtex-f31404af3a"].spec
    assert (spec.mask_net_depth, spec.mask_net_width, spec.mask_fill) == (2, 8, "blur")
    assert spec.mask_area == 0 and spec.mask_target == "none", "its mask is a soft one, of any area"
    assert spec.method_args == {renamings.HYPERPARAMETERS.get(key, key): value for key, value in MASKED.items()}


@pytest.mark.parametrize("name", STUDENTS)
def test_an_old_student_has_its_control_and_is_found_instead_of_planned_again(old, name):
    student = old[name]
    assert control_of(old, student).id == CONTROL
    assert replicates_of(old, student).pairs == ((old[CONTROL], student),)
    assert old.create(student.spec).id == name, "its folder keeps the name that old settings hash to"


def test_an_old_sweep_is_read_with_its_cells(old):
    (sweep,) = sweeps(old)
    assert sweep.axes == {"method": ("kd", "fitnet"), "alpha": (0.4, 0.7)}
    assert sweep.base.equal_steps == 0.5
    assert [cell.title for cell in planned_cells(sweep, old)] == ["kd, alpha 0.4", "fitnet"]
    assert read(old, sweep).milliseconds == {"plain3": 1.5} and len(table(sweep, old)) == 2
    assert find(old, "phantom_brain-method-alpha-0123456789") == sweep, "links keep the id of that version"


def test_a_file_of_today_is_taken_as_it_is():
    """No renaming is applied twice: a later hyper-parameter may have a name that was once another's."""
    today = {"format": renamings.FORMAT, "method": "hint", "method_args": {"keep": 1.0}}
    assert renamings.current_spec(today) == {"method": "hint", "method_args": {"keep": 1.0}}
    spec = RunSpec(mask_net_depth=2)
    assert spec.to_json()["format"] == renamings.FORMAT and RunSpec.from_json(spec.to_json()) == spec
    (axes,) = [Sweep.from_json({"format": 2, "base": {}, "axes": {"alpha": [0.1, 0.2]}}).axes]
    assert axes == {"alpha": (0.1, 0.2)}


def test_the_format_is_no_setting():
    """Another version of the file leaves the names of the folders as they are."""
    assert "format" not in RunSpec.__dataclass_fields__


def test_a_stored_warning_advises_by_todays_names():
    old = "The mask has closed: it shows 0.02 % of a picture. Lower bottleneck, or raise keep or rate."
    assert renamings.current_advice(old) == (
        "The mask has closed: it shows 0.02 % of an image. Lower mask_penalty, or raise sufficiency or mask_prior.")
    today = "Mask collapsed: all closed. Raise sufficiency, and keep the rate."
    assert renamings.current_advice(today) == today
