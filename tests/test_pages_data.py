"""The data page: what is chosen, what is said of it, and what becomes of files that readers send."""

import io
import shutil
from pathlib import Path

import pytest
import streamlit as st
from made_sets import make_folder, make_mask
from streamlit.testing.v1 import AppTest
from test_pages_home import words

from kd.datasets import open_dataset
from kd.datasets.cache import cached_sets
from kd.errors import UsageError
from kd.paths import PROJECT, default_paths
from kd.spec import RunSpec
from kd.store.runs import Store
from pages.parts.data import uploads
from pages.parts.shared import typed_paths

SMALL = "phantom-brain:count=40"


def page(warm: bool = False, **address: str) -> AppTest:
    at = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=120)
    if warm:
        at.run()
    at.switch_page("pages/data.py")
    for name, value in address.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "eyes", {"train/disc": 6, "train/normal": 6, "test/disc": 2, "test/normal": 3})


@pytest.fixture
def archive(folder: Path) -> bytes:
    return Path(shutil.make_archive(str(folder), "zip", folder)).read_bytes()


def pictures(at: AppTest) -> list[str]:
    return [image.proto.imgs[0].url for image in at.get("image")]


def test_the_first_set_is_a_phantom_and_its_options_come_from_the_address():
    at = page(data="phantom-brain:count=40,seed=3", size="64")
    assert at.selectbox(key="data_set").value == "phantom-brain"
    assert at.number_input(key="data_option_count").value == 40
    assert at.number_input(key="data_option_seed").value == 3
    assert "40 images · 4 classes · 64 px" in words(at)


@pytest.mark.parametrize("warm", [False, True])
def test_a_folder_is_opened_from_a_link(folder, warm):
    at = page(warm, data=str(folder), size="28")
    frame = at.dataframe[0].value
    assert frame.loc["disc", "test"] == 2
    assert frame.loc["normal", "test"] == 3
    assert frame.loc["all", "all"] == 17
    assert not at.error


def test_caveats_stand_before_the_pictures():
    at = page(data=SMALL, size="32")
    assert "nothing about a disease" in at.info[0].value


def test_bars_show_every_split():
    spec = page(data=SMALL, size="32").get("plotly_chart")[0].proto.spec
    assert all(f'"name":"{part}"' in spec for part in ("train", "val", "test"))


def test_a_bad_file_is_named_with_its_reason(folder):
    (folder / "train" / "disc" / "broken.png").write_bytes(b"not a picture")
    at = page(data=str(folder), size="28")
    skipped = at.dataframe[1].value
    assert skipped["File"].str.endswith("broken.png").all()
    assert skipped["Reason"].str.len().min() > 5
    assert any("1 skipped" in expander.label for expander in at.expander)


@pytest.mark.parametrize("reference", ["/nowhere/at/all", "phantom-brian", "phantom-brain:count=5",
                                       "phantom-brain:tail=1"])
def test_what_cannot_be_opened_is_said_in_a_sentence_in_place(reference):
    at = page(data=reference)
    assert len(at.error) == 1
    assert "Internal error" not in at.error[0].value
    assert at.title[0].value == "Data"


def test_a_folder_without_classes_is_said_in_a_sentence(tmp_path):
    at = page(data=str(make_folder(tmp_path / "one", {"only": 4})), size="28")
    assert "at least two" in at.error[0].value


@pytest.mark.parametrize("size", ["0", "9999", "huge", "-3"])
def test_a_size_out_of_range_in_the_address_is_passed_over(size):
    assert "96 px" in words(page(data=SMALL, size=size))


def test_another_phantom_drops_a_shortcut_of_the_first():
    at = page(data=f"{SMALL},shortcut=glioma", size="32")
    assert at.selectbox(key="data_option_shortcut").value == "glioma"
    at.selectbox(key="data_set").set_value("phantom-fundus").run()
    assert not at.exception
    assert not at.error
    assert at.query_params["data"] == "phantom-fundus:count=40"


def test_options_are_drawn_and_put_into_the_address():
    at = page(data=SMALL, size="32")
    at.number_input(key="data_option_count").set_value(60)
    at.number_input(key="data_option_seed").set_value(2)
    next(button for button in at.button if button.label == "Draw").click().run()
    assert at.query_params["data"] == "phantom-brain:count=60,seed=2"
    assert "60 images" in words(at)


def test_pictures_can_be_chosen_by_class_and_split():
    at = page(data=SMALL, size="32")
    everything = len(pictures(at))
    at.selectbox(key="sample_class").set_value("glioma").run()
    assert 0 < len(pictures(at)) < everything
    at.selectbox(key="sample_split").set_value("test").run()
    assert {image.proto.imgs[0].caption for image in at.get("image")} == {"glioma"}
    assert len(pictures(at)) == 2


def test_the_evidence_is_outlined_on_demand():
    at = page(data=SMALL, size="32")
    plain = pictures(at)
    at.toggle(key="sample_masks").set_value(True).run()
    assert len(pictures(at)) == len(plain)
    assert pictures(at) != plain


def test_a_set_without_masks_offers_no_outline_and_one_with_masks_does(folder):
    assert not page(data=str(folder), size="28").toggle
    make_mask(folder.with_name("eyes_masks") / "train" / "disc" / "p000.png")
    assert page(data=str(folder), size="28").toggle


def test_a_seed_shuffles_and_repeats():
    at = page(data=SMALL, size="32")
    before = pictures(at)
    at.number_input(key="sample_seed").set_value(5).run()
    shuffled = pictures(at)
    assert shuffled != before
    at.number_input(key="sample_seed").set_value(0).run()
    assert pictures(at) == before
    at.number_input(key="sample_seed").set_value(5).run()
    assert pictures(at) == shuffled


def test_pages_show_all_pictures_once():
    at = page(data="phantom-brain:count=60", size="32")
    first = pictures(at)
    at.get("pagination")[0].set_value(2).run()
    assert len(first) == 24
    assert not set(first) & set(pictures(at))


def test_decoded_images_are_cleared_but_for_those_shown():
    paths = default_paths()
    open_dataset("phantom-brain:count=60", 48, paths)
    at = page(data=SMALL, size="32")
    assert "Decoded-image cache: " in words(at)
    assert len(cached_sets(paths)) == 2
    at.button(key="clear_decoded_cache").click().run()
    assert not at.exception
    assert "in use stay" in at.toast[0].value
    assert [one.reference for one in cached_sets(paths)] == [SMALL]


def test_the_set_goes_on_to_the_distil_page(monkeypatch):
    asked = []
    monkeypatch.setattr(st, "switch_page", lambda page, query_params=None: asked.append((page, query_params)))
    at = page(data=SMALL, size="32")
    next(button for button in at.button if button.label == "Distil from this data set").click().run()
    assert asked == [("pages/distill.py", {"data": SMALL})]


def test_a_typed_path_is_opened(folder):
    at = page(data=SMALL, size="32")
    at.text_input(key="data_path").set_value(str(folder))
    next(button for button in at.button if button.label == "Open").click().run()
    assert at.query_params["data"] == str(folder)
    assert "17 images" in words(at)


def test_an_upload_is_kept_under_our_name_and_shown(archive):
    at = page(data=SMALL, size="32")
    at.get("file_uploader")[0].upload("../../My Eyes (1).ZIP", archive)
    next(button for button in at.button if button.label == "Add").click().run()
    assert not at.error, at.error
    kept = list(default_paths().data.glob("*.zip"))
    assert [path.name[:10] for path in kept] == ["my-eyes-1-"]
    assert at.query_params["data"] == str(kept[0])


@pytest.mark.parametrize(("name", "start"), [
    ("../../etc/passwd.zip", "passwd-"), ("C:\\Users\\me\\set.npz", "set-"), (".zip.zip", "zip-"),
    ("ä ö.zip", "upload-"), ("x" * 300 + ".zip", "x" * 40 + "-"), ("a\x00b\n.zip", "a-b-")])
def test_a_client_s_name_never_becomes_a_path(name, start):
    safe = uploads.safe_name(name, b"content")
    assert safe.startswith(start)
    assert Path(safe).name == safe
    assert len(safe) < 60


def test_equal_names_of_different_content_do_not_overwrite_each_other():
    assert uploads.safe_name("a.zip", b"one") != uploads.safe_name("a.zip", b"two")


@pytest.mark.parametrize("name", ["set.exe", "set", "set.zip.pth", "set.tar.gz"])
def test_other_kinds_of_files_are_refused(name):
    with pytest.raises(UsageError, match=r"zip"):
        uploads.safe_name(name, b"PK")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"PK\x03\x04 but nothing more"])
def test_a_file_that_is_no_data_set_is_refused_and_not_kept(content):
    with pytest.raises(UsageError):
        uploads.keep("set.zip", content, default_paths())
    assert not list(default_paths().data.glob("*.zip"))


def test_the_same_upload_twice_is_one_file(archive):
    assert uploads.keep("a.zip", archive, default_paths()) == uploads.keep("a.zip", archive, default_paths())
    assert io.BytesIO(archive).getvalue() == next(default_paths().data.glob("*.zip")).read_bytes()


@pytest.mark.parametrize(("address", "given", "shown"), [
    ("127.0.0.1", "", True), ("127.0.0.1", "0", False), ("0.0.0.0", "", False), (None, "", False),
    ("0.0.0.0", "1", True)])
def test_paths_outside_the_data_folder_are_the_owners_to_allow(folder, monkeypatch, address, given, shown):
    get = st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: address if name == "server.address" else get(name))
    monkeypatch.setenv(typed_paths.VARIABLE, given)
    if shown:
        typed_paths.require_allowed(str(folder))
    outside = (str(folder), f"{folder}/../{folder.name}", "/nothing/there", "~", f"../{folder.name}")
    for path in () if shown else outside:
        with pytest.raises(UsageError, match="Only what lies in the data folder"):
            typed_paths.require_allowed(path)
    inside = Store().paths.data / "own"
    inside.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(inside)
    typed_paths.require_allowed("own")
    typed_paths.require_allowed(str(inside))
    typed_paths.require_allowed("phantom-brain:count=60")
    inside.rename(folder)
    Store().create(RunSpec(data=str(folder)))
    typed_paths.require_allowed(str(folder))


def test_a_visitor_from_elsewhere_is_told_so_in_place(folder, monkeypatch):
    monkeypatch.setenv(typed_paths.VARIABLE, "0")
    at = page(data=str(folder))
    assert [one.value.split(",")[0] for one in at.error] == ["Only what lies in the data folder can be opened here"]
