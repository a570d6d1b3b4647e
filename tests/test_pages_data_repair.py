"""Repairing on the data page."""

from pathlib import Path

import pytest
from made_leaks import make_clean, plant_copies, plant_named_patients
from test_pages_data import page
from test_pages_home import words

from kd.audit.audit import audit
from kd.datasets import open_dataset
from kd.jobs.queue import queue
from kd.paths import default_paths


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    root = make_clean(tmp_path / "leaking", 12, 6, 6)
    plant_copies(root)
    audit(str(root), default_paths())
    return root


def test_a_set_is_repaired_on_the_page_and_its_history_is_shown(leaking):
    paths = default_paths()
    at = page(data=str(leaking), size="28")
    assert at.checkbox(key="repair_drop").value  # what the audit found is proposed
    assert "patients" not in at.selectbox(key="repair_split").options
    at.text_input(key="repair_name").set_value("mended")
    at.text_input(key="repair_class_0").set_value("sick")
    next(button for button in at.button if button.label == "Write the repaired set").click().run()
    assert not at.error or "cannot be believed" in at.error[0].value
    assert queue(paths).join(120)
    assert open_dataset("mended", 28, paths).classes == ("sick", "well")
    at.run()
    assert "is a data set of its own now" in words(at)
    shown = words(page(data=str(paths.data / "mended"), size="28"))
    assert "copies left out" in shown
    assert "ill is sick" in shown


def test_patients_in_two_parts_propose_a_split_by_them_and_any_image_can_be_left_out(tmp_path: Path) -> None:
    root = make_clean(tmp_path / "shared", 12, 6, 6)
    plant_named_patients(root, shared=True)
    audit(str(root), default_paths())
    at = page(data=str(root), size="28")
    assert at.selectbox(key="repair_split").value == "patients"
    at.text_input(key="repair_name").set_value("apart")
    gone = sorted(path.name for path in (root / "train/ill").iterdir())[4]
    at.multiselect(key="repair_exclude").set_value([gone])
    next(button for button in at.button if button.label == "Write the repaired set").click().run()
    assert queue(default_paths()).join(120)
    kept = {path.name for path in (default_paths().data / "apart").glob("*/*/*.png")}
    assert len(kept) == 47
    assert gone not in kept


def test_a_name_that_is_taken_and_nothing_to_do_are_said_in_place(leaking):
    (default_paths().data / "taken").mkdir(parents=True, exist_ok=True)
    at = page(data=str(leaking), size="28")
    at.text_input(key="repair_name").set_value("taken")
    next(button for button in at.button if button.label == "Write the repaired set").click().run()
    assert "is there already" in at.error[1].value
    at.text_input(key="repair_name").set_value("free")
    at.checkbox(key="repair_drop").set_value(False)
    next(button for button in at.button if button.label == "Write the repaired set").click().run()
    assert "There is nothing to repair" in at.error[1].value


def test_a_drawn_set_offers_no_repair():
    audit("phantom-brain:count=40", default_paths())
    at = page(data="phantom-brain:count=40", size="32")
    assert not [button for button in at.button if button.label == "Write the repaired set"]
