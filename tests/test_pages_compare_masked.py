"""The compare page with a student behind a mask: the mask, what the student sees, and where neither is offered."""

import json
from collections.abc import Iterator

import pytest
from small import distilled
from streamlit.testing.v1 import AppTest
from test_pages_compare import one, page, pictures
from test_pages_home import words

from kd.evaluation.predict import data_of
from kd.explainers import EXPLAINERS
from kd.inspection.compare import compare
from kd.paths import Paths
from kd.store.groups import Distillation
from kd.store.runs import Store
from pages.parts.compare import page as compare_page


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Distillation:
    """Teacher, control and explained student; trained once, because that takes seconds."""
    return distilled(Store(Paths(tmp_path_factory.mktemp("trained"))), depth=3, method="medtex", mask_net_depth=2,
                     mask_net_width=4)


@pytest.fixture(scope="module")
def plain(trained: Distillation) -> Distillation:
    """An ordinary student of the same teacher."""
    return distilled(Store(Paths(trained.student.path.parents[1])), depth=3)


@pytest.fixture
def trio(trained: Distillation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distillation]:
    monkeypatch.setenv("KD_LENS_ROOT", str(trained.student.path.parents[1]))
    yield trained
    compare_page.compared.clear()


def captions(at: AppTest) -> list[str]:
    """Of all maps, without whether they are blank."""
    return [caption.removesuffix(" · blank") for caption in pictures(at) if not caption.startswith("Stage")]


def rows(at: AppTest) -> list[str]:
    return [cell.replace("\u00a0", " ") for cell in at.table[0].value[""]]


MASKED = ["Student · Mask 32×32", "Masked input of the student"]
USUAL = ["Image", "Teacher · Grad-CAM 1×1", "Teacher · Sensitivity 8×8", "Control · Grad-CAM 4×4",
         "Student · Grad-CAM 4×4"]


def test_the_mask_and_what_it_leaves_stand_beside_the_maps(trio):
    at = page(run=trio.student.id, image="1")
    assert captions(at) == USUAL + MASKED
    runs = Store(Paths(trio.student.path.parents[1]))
    found = compare(runs, trio.student, data_of(trio.student, runs).test.images[1], repeats=1)
    assert f"It shows **{found.student.mask_area:.1%}**".replace("%", " %") in words(at)
    assert EXPLAINERS["mask"].info.reading_note in words(at)
    assert "replaced by the mean training image" in words(at)


def test_the_mask_has_its_row_among_the_costs(trio):
    at = page(run=trio.student.id)
    assert rows(at)[-4:] == ["Student · forward", "Student · Grad-CAM", "Student · Mask", "Student · stage maps"]
    assert ", its mask" in words(at)


def test_the_mask_stays_beside_another_explainer(trio):
    at = page(run=trio.student.id, explainer="hires-cam")
    assert captions(at)[4:] == ["Student · HiResCAM 4×4", *MASKED]
    at.toggle(key="compare_values").set_value(True).run()
    assert not at.exception
    heat = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    assert sum(figure["data"][0]["type"] == "heatmap" for figure in heat) == 4 + 1 + 3


def test_asked_by_the_mask_the_others_show_grad_cam_and_say_so(trio):
    at = page(run=trio.student.id, explainer="mask")
    assert at.selectbox(key="compare_explainer").value == "mask"
    assert captions(at) == [*USUAL[:4], *MASKED]
    assert rows(at) == ["Teacher · forward", "Teacher · Grad-CAM", "Teacher · Sensitivity", "Control · forward",
                        "Control · Grad-CAM", "Control · stage maps", "Student · forward", "Student · Mask",
                        "Student · stage maps"]
    assert "Grad-CAM is shown for models without a mask" in words(at)
    assert not [box for box in at.selectbox if box.key == "compare_stage"], "it lies on the picture"


def test_an_ordinary_student_has_none_and_is_not_offered_one(trio, plain):
    at = page(run=plain.student.id, explainer="mask")
    assert not at.error
    assert at.selectbox(key="compare_explainer").value == "grad-cam"
    assert EXPLAINERS["mask"].info.title not in at.selectbox(key="compare_explainer").options
    assert captions(at) == USUAL
    assert "explainer" not in at.query_params
    assert "mask" not in words(at)


def test_beside_an_ordinary_student_a_masked_one_has_its_mask(trio, plain):
    at = page(run=plain.student.id, beside=trio.student.id, explainer="mask")
    assert one(at.query_params["explainer"]) == "mask"
    assert captions(at) == [*USUAL, "Student 2 · Mask 32×32", "Masked input of the student 2"]


@pytest.mark.parametrize("view", ["channels", "decision"])
def test_the_other_views_read_an_explained_student_too(trio, view):
    assert not page(run=trio.student.id, view=view, explainer="mask").error


def test_its_layers_are_read_as_any_others(trio):
    at = page(run=trio.student.id, layers="weighted", fields="1")
    assert not at.error
    assert any("±" in caption for caption in pictures(at) if caption.startswith("Stage 1"))
