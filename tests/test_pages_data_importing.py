"""Import on the data page: looked at, named, written by the queue."""

from pathlib import Path

import pytest
from made_sets import make_folder, make_mask
from streamlit.testing.v1 import AppTest
from test_pages_data import page
from test_pages_home import words
from waiting import wait_for

from kd.datasets import open_dataset
from kd.paths import default_paths


def look(source: Path, **fields: str) -> AppTest:
    at = page(data="phantom-brain:count=40")
    at.text_input(key="import_source").set_value(str(source))
    for key, value in fields.items():
        at.text_input(key=f"import_{key}").set_value(value)
    button(at, "Look")
    return at.run()


def button(at: AppTest, label: str) -> None:
    next(one for one in at.button if one.label == label).click()


def test_a_folder_is_looked_at_and_imported(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", {"benign": 12, "malignant": 12})
    for number in range(12):
        make_mask(root / f"benign/p{number:03d}_mask.png")
    at = look(root)
    assert not at.exception and "What is this, and is that right?" in words(at)
    assert "24 images" in words(at) and "12 masks" in words(at)
    at.text_input(key="import_name").set_value("mine")
    at.text_input(key="import_class_malignant").set_value("cancer")
    button(at, "Import")
    at.run()
    assert not at.exception
    assert wait_for(lambda: (default_paths().data / "mine").is_dir())
    assert open_dataset("mine", 16).classes == ("benign", "cancer")
    assert wait_for(lambda: any(one.label == "Show it" for one in at.run().button))
    button(at, "Show it")
    at.run()
    assert not at.exception and "Mine" in words(at)
    assert str(default_paths().data / "mine") in at.query_params["data"]


def test_editions_are_asked_about_in_place(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "s", {f"{top}/{label}": 6 for top in ("Original", "Augmented") for label in "ab"})
    at = look(root)
    assert not at.exception and "Augmented" in words(at) and "Only this folder" in words(at)
    assert "What is this" not in words(at)
    at = look(root, folder="Original")
    assert "12 images" in words(at)


@pytest.mark.parametrize("name", ["", "../x", "train"])
def test_a_bad_name_is_said_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    at = look(make_folder(tmp_path / "s", {"a": 12, "b": 12}))
    at.text_input(key="import_name").set_value(name)
    button(at, "Import")
    at.run()
    assert not at.exception and any("cannot name a data set" in one.value for one in at.error)
