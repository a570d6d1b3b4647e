"""The compare page on a real, small distillation: choosing, asking, sharing, taking away."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import distilled
from streamlit.testing.v1 import AppTest
from test_pages_home import words

from kd.errors import UsageError
from kd.paths import PROJECT, Paths
from kd.store.groups import Distillation
from kd.store.predictions import STUDENT_WRONG, load, select_cases
from kd.store.runs import Store
from pages.parts.compare import answer as compare_answer
from pages.parts.compare import page as compare_page
from pages.parts.shared import dataset_info


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Distillation:
    """Teacher, control and student; trained once, because that takes seconds."""
    return distilled(Store(Paths(tmp_path_factory.mktemp("trained"))), depth=3)


@pytest.fixture
def trio(trained: Distillation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distillation]:
    monkeypatch.setenv("KD_LENS_ROOT", str(trained.student.path.parents[1]))
    yield trained
    compare_page.compared.clear()


def page(warm: bool = False, **address: str) -> AppTest:
    at = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=120)
    if warm:
        at.run()
    at.switch_page("pages/compare.py")
    for name, value in address.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at


def one(value: object) -> object:
    return value[0] if isinstance(value, list) else value


def pictures(at: AppTest) -> dict[str, str]:
    """Caption and content address of every picture with a caption."""
    shown = [image.proto.imgs[0] for image in at.get("image")]
    return {image.caption: image.url for image in shown if image.caption}


def press(at: AppTest, label: str) -> AppTest:
    next(button for button in at.button if button.label == label).click()
    at.run()
    assert not at.exception, at.exception
    return at


def test_nothing_yet_has_one_next_step():
    at = page()
    assert "once a student has been distilled" in words(at)
    assert "Distil a student" in [link.label for link in at.main.get("page_link")]
    assert not at.selectbox


@pytest.mark.parametrize("warm", [False, True])
def test_a_link_opens_exactly_this_view(trio, warm):
    classes = trio.teacher.summary["classes"]
    at = page(warm, run=trio.student.id, image="5", target=classes[2])
    assert not at.error
    assert at.selectbox(key="compare_run").value == trio.student.id
    assert at.number_input(key="compare_image").value == 5
    assert at.selectbox(key="compare_target").value == classes[2]
    assert f"Evidence for “{classes[2]}”" in words(at)
    assert {name: one(at.query_params[name]) for name in ("run", "image", "target")} == {
        "run": trio.student.id, "image": "5", "target": classes[2]}


def test_all_models_and_every_layer_are_shown_with_their_grid(trio):
    captions = list(pictures(page(run=trio.student.id)))
    assert captions[0] == "Image"
    assert [caption.split(" · ")[0] for caption in captions[1:5]] == ["Teacher", "Teacher", "Control", "Student"]
    assert captions[2] == "Teacher · Sensitivity 8×8"
    layers = [caption for caption in captions if caption.startswith("Stage")]
    assert [layer.removesuffix(" · blank") for layer in layers] == ["Stage 1 · 16×16", "Stage 2 · 8×8", "Stage 3 · 4×4"]


def test_what_is_class_specific_is_said(trio):
    text = words(page(run=trio.student.id))
    assert "whatever the class" in text
    assert "support the target class" in text


def test_the_target_is_the_teachers_prediction_unless_another_is_chosen(trio):
    at = page(run=trio.student.id, image="0")
    classes = trio.teacher.summary["classes"]
    predicted = classes[load(trio.teacher).predicted[0]]
    assert f"Evidence for “{predicted}”" in words(at)
    other = next(name for name in classes if name != predicted)
    at.selectbox(key="compare_target").set_value(other).run()
    assert f"Evidence for “{other}”" in words(at)
    assert one(at.query_params["target"]) == other


def test_the_link_to_a_teacher_opens_its_student(trio):
    assert page(run=trio.teacher.id).selectbox(key="compare_run").value == trio.student.id


def test_an_unknown_run_class_or_number_does_no_harm(trio):
    assert "nonsense" in page(run="nonsense").error[0].value
    at = page(run=trio.student.id, image="99999", target="no such class")
    assert not at.error
    assert at.selectbox(key="compare_target").value == ""


def test_next_previous_and_the_filter_walk_through_the_test_set(trio):
    at = page(run=trio.student.id, image="3")
    press(at, "Next")
    assert at.number_input(key="compare_image").value == 4
    press(press(at, "Previous"), "Previous")
    assert at.number_input(key="compare_image").value == 2
    label = trio.teacher.summary["classes"][1]
    at.selectbox(key="compare_class").set_value(label).run()
    assert f"true class: **{label}**" in words(at)


def test_the_filter_offers_the_images_that_only_the_teacher_got_right(trio):
    wanted = select_cases(STUDENT_WRONG, load(trio.teacher), load(trio.student))
    at = page(run=trio.student.id)
    at.selectbox(key="compare_case").set_value(STUDENT_WRONG).run()
    assert not at.exception
    if len(wanted):
        assert at.number_input(key="compare_image").value == wanted[0]
        assert f"1 of {len(wanted)}" in words(at)
    else:
        assert "No test image is of this kind" in words(at)


def test_moving_the_opacity_blends_again_and_asks_no_model(trio, monkeypatch):
    at = page(run=trio.student.id)
    before = pictures(at)
    monkeypatch.setattr(compare_page, "compare", lambda *_: pytest.fail("the models were asked again"))
    at.slider(key="compare_opacity").set_value(1.0).run()
    after = pictures(at)
    assert not at.error
    assert after["Image"] == before["Image"]
    assert after["Stage 1 · 16×16"] != before["Stage 1 · 16×16"]


def test_the_evidence_is_outlined_unless_it_is_turned_off(trio):
    at = page(run=trio.student.id, image="0")
    outlined = pictures(at)["Image"]
    at.toggle(key="compare_outline").set_value(False).run()
    assert pictures(at)["Image"] != outlined


def test_the_answer_stands_right_under_the_title(trio):
    at = page(run=trio.student.id, image="0")
    answer = next(one.value for one in at.markdown if "In this image" in one.value)
    drawn = [one for one in at.main if one.type in ("title", "markdown", "flex_container", "vertical", "container")]
    assert drawn[0].type == "title" and answer in [one.value for one in drawn[1].markdown]
    assert any(link.label.startswith("Evaluate explanations") for link in drawn[1].get("page_link"))


def test_a_data_set_that_is_gone_takes_the_baseline_only(trio, monkeypatch):
    def gone(*_):
        raise UsageError("There is no such data set.")

    compare_answer._maps.clear()
    monkeypatch.setattr(compare_answer, "opened", gone)
    at = page(run=trio.student.id, image="0")
    assert not at.error and any("In this image" in one.value for one in at.markdown)


def test_the_controls_layers_can_be_shown_instead(trio):
    at = page(run=trio.student.id)
    before = pictures(at)
    at.segmented_control(key="compare_of").set_value("control").run()
    after = pictures(at)
    assert after["Stage 1 · 16×16"] != before["Stage 1 · 16×16"]


def test_times_stand_with_their_protocol_and_probabilities_with_the_truth(trio):
    at = page(run=trio.student.id)
    frame = at.table[0].value
    assert [cell.replace("\u00a0", " ") for cell in frame[""]] == [
        "Teacher · forward", "Teacher · Grad-CAM", "Teacher · Sensitivity", "Control · forward", "Control · Grad-CAM",
        "Control · stage maps", "Student · forward", "Student · Grad-CAM", "Student · stage maps"]
    assert set(frame["n"]) == {"5"}
    assert "after one warm-up round" in words(at)
    chart = json.loads(at.get("plotly_chart")[0].proto.spec)
    assert [trace["name"] for trace in chart["data"]] == ["teacher", "control", "student"]
    assert sum("✓" in tick for tick in chart["data"][0]["y"]) == 1


def upload(trio: Distillation, content: bytes, name: str = "../../mine.png") -> AppTest:
    at = page(run=trio.student.id)
    at.segmented_control(key="compare_source").set_value("Upload").run()
    at.file_uploader(key="compare_upload").set_value((name, content, "image/png")).run()
    assert not at.exception, at.exception
    return at


def files(trio: Distillation) -> set[Path]:
    return {path for path in trio.student.path.parents[1].rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK"])
def test_an_uploaded_picture_is_compared_and_not_kept(trio, mode):
    page(run=trio.student.id)
    before = files(trio)
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8)).convert(mode).save(
        buffer, "TIFF")
    at = upload(trio, buffer.getvalue(), "scan.tif")
    assert not at.error
    assert "Evidence for" in words(at)
    assert "The true class of an upload is not known" in words(at)
    assert "image" not in at.query_params
    assert files(trio) == before


def test_a_file_that_is_no_picture_is_refused_in_a_sentence(trio):
    at = upload(trio, b"GIF89a and nothing else", "scan.gif")
    assert "cannot be used" in at.error[0].value
    assert "Evidence for" not in words(at)


def test_a_data_set_that_is_gone_is_said_and_an_upload_still_works(trio, monkeypatch):
    def gone(*_: object, **__: object) -> None:
        raise UsageError("It is gone.")

    dataset_info.opened.clear()
    monkeypatch.setattr(dataset_info, "open_dataset", gone)
    assert "It is gone" in page(run=trio.student.id).error[0].value
    buffer = io.BytesIO()
    Image.new("L", (40, 40), 90).save(buffer, "PNG")
    at = page(run=trio.student.id)
    at.segmented_control(key="compare_source").set_value("Upload").run()
    at.file_uploader(key="compare_upload").set_value(("x.png", buffer.getvalue(), "image/png")).run()
    assert not at.error
    assert "Evidence for" in words(at)
