"""Numbers and names as pages show them: short, and whatever marks a name contains."""

import json

import numpy as np
import pytest
from made_sets import make_folder
from streamlit.testing.v1 import AppTest
from test_pages_home import words

from kd.paths import PROJECT
from kd.store.runs import STATUSES
from kd.wording import count
from pages.parts.shared import images
from pages.parts.shared.format import ending, plain, tick
from pages.parts.shared.theme import STATUS, STATUS_WORDS

ODD = "*mild* $x$ <b>2 mm</b> :red[a] _b_"
ALIKE = [f"Non-proliferative diabetic retinopathy, {grade}" for grade in ("mild", "moderate", "severe")]


@pytest.mark.parametrize(("number", "text"), [
    (None, "–"), (456, "456"), (9_999, "9,999"), (73_984, "74 k"), (394_000, "394 k"), (11.2e6, "11.2 M"),
    (6.66e8, "666 M"), (2e9, "2 G"), (0.25, "0.25")])
def test_counts_are_short(number, text):
    assert count(number) == text


@pytest.mark.parametrize("name", ["glioma", "breast_ultrasound", "Stage 3 – 4 (T2)", "grade 2: mild"])
def test_ordinary_names_are_left_alone(name):
    assert plain(name) == name


def test_every_status_has_a_badge_and_a_word():
    assert set(STATUS) == set(STATUS_WORDS) == set(STATUSES)
    assert len(set(STATUS_WORDS.values())) == len(STATUSES)


def test_marks_in_a_name_are_not_obeyed():
    assert plain(ODD) == r"\*mild\* \$x\$ \<b\>2 mm\</b\> \:red\[a\] \_b\_"
    assert plain("1. normal") == r"1\. normal"


def test_names_on_an_axis_stay_apart_and_carry_no_tags():
    assert len({tick(name) for name in ALIKE}) == len(ALIKE)
    assert "<b>" not in tick("a<b>c")
    assert max(len(line) for line in tick(ALIKE[0]).split("<br>")) <= 22


def test_the_end_of_a_path_is_kept():
    assert ending("/data/brain", 20) == "/data/brain"
    assert ending("/somewhere/far/away/in/brain", 9) == "…in/brain"


def test_odd_class_names_reach_the_page_whole(tmp_path):
    names = [*ALIKE, ODD.replace("/", "")]
    root = make_folder(tmp_path / "odd", {f"{part}/{name}": 10 for part in ("train", "test") for name in names})
    at = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=120)
    at.switch_page("pages/data.py")
    at.query_params["data"] = str(root)
    at.run()
    assert not at.exception and not at.error, words(at)
    bars = json.loads(at.get("plotly_chart")[0].proto.spec)["data"]
    assert sorted(bars[0]["y"]) == sorted(tick(name, 28) for name in names)


def test_a_mosaic_keeps_its_tiles_and_is_see_through_between_them():
    large, small = np.full((4, 4, 3), 200, np.uint8), np.full((2, 2, 3), 50, np.uint8)
    whole = images.mosaic([[large, large], [small]])
    assert whole.shape == (4 + 2 + images.GAP, 8 + images.GAP, 4)
    assert (whole[..., 3] == 255).sum() == 2 * 16 + 4
    assert (whole[:4, -4:, :3] == 200).all()
    assert (whole[-2:, :2, :3] == 50).all()
    assert images.fitted(small, 6).shape == (6, 6, 3)
    assert images.png(whole).startswith(b"\x89PNG")
