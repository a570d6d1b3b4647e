"""The views of the compare page on a real distillation: explainers, layers, channels, the decision as it forms."""

import io
import json
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest
from made_runs import picture
from PIL import Image
from small import distilled
from streamlit.testing.v1 import AppTest
from test_pages_compare import one, page, pictures, press, upload
from test_pages_home import words
from waiting import PATIENCE

from kd.explainers import EXPLAINERS
from kd.inspection import cam_check, linear_probes
from kd.inspection.compare import compare, offered
from kd.jobs import tasks
from kd.jobs.queue import Queue, queue
from kd.paths import Paths
from kd.store.groups import Distillation
from kd.store.runs import Store
from pages.parts.compare import page as compare_page
from pages.parts.compare.image_picker import Chosen
from pages.parts.compare.takeaway import case_line, file_name

# The mask, which an ordinary student has not, is looked for in test_pages_compare_masked.
INSTANT = [name for name in offered([]) if EXPLAINERS[name].info.cost == "instant"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Distillation:
    """Teacher, control and student; trained once, because that takes seconds."""
    return distilled(Store(Paths(tmp_path_factory.mktemp("trained"))), depth=3)


@pytest.fixture
def trio(trained: Distillation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distillation]:
    monkeypatch.setenv("KD_LENS_ROOT", str(trained.student.path.parents[1]))
    yield trained
    compare_page.compared.clear()


@pytest.fixture(scope="module")
def second(trained: Distillation) -> Distillation:
    """Another student of the same pictures."""
    return distilled(Store(Paths(trained.student.path.parents[1])), depth=2)


@pytest.fixture
def jobs(trio: Distillation) -> Iterator[Queue]:
    """The queue of this store, with nothing left in it afterwards."""
    made = queue(Paths(trio.student.path.parents[1]))
    yield made
    assert made.join(PATIENCE)


def choose(at: AppTest, kind: str, key: str, value: object) -> AppTest:
    getattr(at, kind)(key=key).set_value(value).run()
    assert not at.exception, at.exception
    assert not at.error, [error.value for error in at.error]
    return at


@pytest.mark.parametrize("name", INSTANT)
def test_every_instant_explainer_is_shown_in_place(trio, name):
    at = page(run=trio.student.id, image="1", explainer=name)
    assert not at.error, [error.value for error in at.error]
    title = EXPLAINERS[name].info.title
    grid = "8×8" if name == "sensitivity" else "4×4"
    assert f"Student · {title} {grid}" in {caption.removesuffix(" · blank") for caption in pictures(at)}
    assert EXPLAINERS[name].info.reading_note in words(at)
    assert ("Teacher: 2×2 cells: too coarse to tell where" in words(at)) == any(
        caption.startswith(f"Teacher · {title} 2×2") for caption in pictures(at))


def test_an_earlier_stage_has_a_finer_grid(trio):
    at = choose(page(run=trio.student.id, explainer="layer-cam"), "selectbox", "compare_stage", -2)
    assert any(caption.startswith("Student · LayerCAM 8×8") for caption in pictures(at))
    assert one(at.query_params["stage"]) == "-2"
    choose(at, "segmented_control", "compare_kind", "svg")
    assert [button.label for button in at.get("download_button")][:2] == ["Figure (SVG)", "Maps (npz)"]
    comparison = compare(Store(), trio.student, picture(), explainer="layer-cam", stage=-2, repeats=1)
    chosen = Chosen(picture(), picture(), "abcdefgh12", 3, "glioma", name="a/b.png")
    assert file_name(comparison, chosen).startswith(f"{trio.student.id}-layer-cam-stage_2-")
    assert file_name(comparison, chosen).endswith("-image3")
    assert file_name(comparison, replace(chosen, number=None)).endswith("-upload-abcdefgh")
    assert "test image 3 (a/b.png), true class: glioma" in case_line(comparison, chosen)


def test_an_explainer_with_a_stage_of_its_own_opens_at_it_and_can_be_asked_for_another(trio):
    at = choose(page(run=trio.student.id), "selectbox", "compare_explainer", "sensitivity")
    assert at.selectbox(key="compare_stage").value == 0
    assert at.selectbox(key="compare_stage").options[0].startswith("Stage 2 of 3")
    assert [caption for caption in pictures(at) if "Sensitivity" in caption] == [
        f"{role} · Sensitivity 8×8" for role in ("Teacher", "Control", "Student")]
    assert "Sensitivity of “" in words(at) and "Evidence for “" not in words(at)
    choose(at, "selectbox", "compare_stage", -1)
    assert one(at.query_params["stage"]) == "-1"
    assert any(caption.startswith("Student · Sensitivity 4×4") for caption in pictures(at))
    back = choose(at, "selectbox", "compare_explainer", "grad-cam")
    assert back.selectbox(key="compare_stage").value == 0
    assert "stage" not in back.query_params


def test_the_whole_view_is_in_the_address_and_comes_back(trio, second):
    place = {"run": trio.student.id, "image": "2", "beside": second.student.id, "explainer": "layer-cam", "stage": "-2",
             "of": "control", "layers": "weighted", "fields": "1"}
    at = page(**place)
    assert {name: one(value) for name, value in at.query_params.items()} == place
    captions = list(pictures(at))
    assert any(caption.startswith("Student 2 · LayerCAM") for caption in captions)
    assert any("±" in caption for caption in captions if caption.startswith("Stage 1"))


@pytest.mark.parametrize("wrong", [{"view": "no such view"}, {"stage": "-99"}, {"stage": "x"}, {"explainer": "no"},
                                   {"image": "9" * 5000}, {"of": "nobody"}, {"layers": "?"},
                                   {"beside": "nobody,nothing"}, {"fields": "2"},
                                   {"channels": "77", "view": "channels"}])
def test_an_address_with_a_wrong_word_shows_the_usual_instead(trio, wrong):
    at = page(run=trio.student.id, **wrong)
    assert not at.error
    assert at.get("download_button")


def test_a_plain_link_undoes_the_choices_of_another(trio):
    at = page(run=trio.student.id, view="channels")
    at.query_params.clear()
    at.query_params["run"] = trio.student.id
    at.run()
    assert at.segmented_control(key="compare_view").value == "maps"


def test_signed_maps_and_receptive_fields_differ_from_stage_maps(trio):
    at = page(run=trio.student.id, image="0")
    plain = pictures(at)["Stage 1 · 16×16"]
    choose(at, "toggle", "compare_fields", True)
    framed = pictures(at)["Stage 1 · 16×16"]
    assert framed != plain
    assert "The frame holds all the pixels" in words(at)
    choose(at, "toggle", "compare_fields", False)
    choose(at, "segmented_control", "compare_layers", "weighted")
    own = [url for caption, url in pictures(at).items() if caption.startswith("Stage 1")]
    assert own not in ([plain], [framed])
    choose(at, "toggle", "compare_shared", True)
    shared = [url for caption, url in pictures(at).items() if caption.startswith("Stage")]
    assert shared[0] != own[0] or shared[1:] != own[1:]
    assert one(at.query_params["layers"]) == "weighted"


def test_the_teachers_layers_can_be_read_too(trio):
    at = choose(page(run=trio.student.id), "segmented_control", "compare_of", "teacher")
    assert one(at.query_params["of"]) == "teacher"
    assert any(caption.startswith("Stage 4") for caption in pictures(at))


def test_values_under_the_pointer_are_those_of_the_maps_own_grid(trio):
    at = choose(page(run=trio.student.id, image="0"), "toggle", "compare_values", True)
    figures = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    heat = [figure for figure in figures if figure["data"][0]["type"] == "heatmap"]
    assert len(heat) == 4 + 3
    assert heat[0]["layout"]["images"][0]["source"].startswith("data:image/png;base64,")


def test_channels_are_named_with_what_they_add(trio):
    at = page(run=trio.student.id, view="channels")
    named = [caption for caption in pictures(at) if caption.startswith("Channel")]
    assert len(named) == 8
    assert "class-specific" in words(at)
    assert "channels add" in words(at)
    before = pictures(at)
    choose(at, "selectbox", "compare_channels_of", -3)
    assert pictures(at) != before
    assert one(at.query_params["channels"]) == "-3"


def test_the_decision_is_offered_then_fitted_on_the_queue_then_shown(trio, jobs):
    assert linear_probes.summary(trio.control) is None
    at = page(run=trio.student.id, view="decision", of="control")
    assert "have not been trained yet" in words(at)
    press(at, "Train linear probes")
    assert jobs.join(PATIENCE)
    assert tasks.status(trio.control, "readouts").state == "finished"
    at = page(run=trio.student.id, view="decision", of="control")
    lines, accuracy = (json.loads(chart.proto.spec) for chart in at.get("plotly_chart"))
    assert lines["data"][0]["x"] == ["Stage 1", "Stage 2", "Stage 3", "Model"]
    assert {trace["name"].split()[0] for trace in accuracy["data"]} == {"linear", "model", "majority"}
    assert one(at.query_params["view"]) == "decision"


def test_a_failed_fit_is_said_and_can_be_tried_again(trio):
    failed = tasks.task(trio.teacher, "readouts")
    failed.request({})
    failed.log("failed", reason="The data set has gone.")
    at = page(run=trio.student.id, view="decision", of="teacher")
    assert "The data set has gone." in [error.value for error in at.error]
    assert "Try again" in [button.label for button in at.button]


def test_a_slow_explainer_is_computed_on_the_queue_and_then_shown(trio, jobs):
    at = page(run=trio.student.id, image="1", explainer="occlusion")
    assert "computed in the background" in words(at)
    assert any("Grad-CAM" in caption for caption in pictures(at))
    press(at, "Compute for 3 models")
    assert jobs.join(PATIENCE)
    at = page(run=trio.student.id, image="1", explainer="occlusion")
    assert "Student · Occlusion 32×32" in {caption.removesuffix(" · blank") for caption in pictures(at)}
    assert "Compute for" not in str([button.label for button in at.button])
    assert "Student · Occlusion 32×32" not in pictures(page(run=trio.student.id, image="2", explainer="occlusion"))


def test_a_slow_explainer_says_why_it_does_not_take_an_upload(trio):
    buffer = io.BytesIO()
    Image.new("L", (40, 40), 90).save(buffer, "PNG")
    at = upload(trio, buffer.getvalue())
    choose(at, "selectbox", "compare_explainer", "occlusion")
    assert "Choose a test image" in at.info[0].value


def test_a_line_says_that_the_maps_are_those_of_pytorch_grad_cam(trio):
    """Once the background check has ended; until then there is none, and nothing waits for it."""
    at = page(run=trio.student.id, image="0")
    checked = cam_check.shared_checks()
    for found in list(checked._found.values()):
        assert found.result(60) is None or found.result().equal
    at.run()
    assert "Grad-CAM equal to pytorch-grad-cam" in words(at)
    assert not at.warning


def test_maps_that_differ_from_pytorch_grad_cam_are_a_warning(trio, monkeypatch):
    def differ(*_):
        done = Future()
        done.set_result(cam_check.CamCheck("grad-cam", 0.25))
        return done

    monkeypatch.setattr(cam_check.BackgroundChecks, "ask", differ)
    at = page(run=trio.student.id, image="0")
    assert "differs from pytorch-grad-cam" in at.warning[0].value and "0.25" in at.warning[0].value
