"""An 8-bit student as a student like any other: its handle, its model, its maps, and what it is worth."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_eight_bit import copied, quantised
from made_runs import picture
from report_reader import Report

from kd.cli.parser import parser
from kd.cli.verbs import run_verb
from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.evaluation import eight_bit as rows
from kd.evaluation import explanation_store, predict
from kd.evaluation.explanations import evaluate_explanations
from kd.evaluation.report import model_report
from kd.explainers import EXPLAINERS, offered
from kd.export import report
from kd.export.int8_report import PAIRS, TeacherMaps
from kd.export.map_agreement import agreement
from kd.export.run import export
from kd.inspection import saved
from kd.inspection.cam_check import check
from kd.inspection.compare import compare
from kd.inspection.explain import explain
from kd.inspection.layers import read_layers
from kd.inspection.model_pool import ModelPool, load_model
from kd.models.onnx_session import OnnxSession
from kd.models.placement import placements
from kd.reporting.build import build
from kd.roles import EIGHT_BIT, STUDENT
from kd.store import predictions
from kd.store.eight_bit import eight_bit_of, run_or_form, with_forms
from kd.wording import percent


@pytest.fixture(scope="module")
def store():
    return quantised()[0]


@pytest.fixture(scope="module")
def trio():
    return quantised()[1]


@pytest.fixture(scope="module")
def form(trio):
    return eight_bit_of(trio.student)


class TestForm:
    def test_has_its_own_answers_and_the_runs_settings(self, form, trio, store):
        assert form.id == f"{trio.student.id}.int8"
        assert form.label == f"{trio.student.spec.model_label}, 8-bit"
        assert form.spec == trio.student.spec
        own = predictions.load(form)
        assert own.same_images(predictions.load(trio.student))
        assert form.evaluation["accuracy"] == form.summary["accuracy"] == form.figures["int8"]["accuracy"]
        assert run_or_form(store, form.id) == form
        assert run_or_form(store, trio.student.id) == trio.student
        assert with_forms([trio.control, trio.student]) == [trio.control, trio.student, form]
        assert form not in list(store)

    def test_what_has_none_says_how_to_make_one(self, store, trio):
        with pytest.raises(UsageError, match=f"has no 8-bit form yet. Make it: python -m kd export {trio.control.id}"):
            run_or_form(store, f"{trio.control.id}.int8")

    def test_counts_no_more_once_the_file_is_another_or_gone(self, tmp_path):
        store, trio = copied(tmp_path)
        form = eight_bit_of(trio.student)
        folder = report.folder_of(trio.student, "onnx")
        found = report.load(folder)
        (folder / report.REPORT).write_text(json.dumps({**found, "int8": {**found["int8"], "weights": "another"}}))
        assert eight_bit_of(trio.student) is None
        (folder / report.REPORT).write_text(json.dumps(found))
        assert eight_bit_of(trio.student) == form
        export(store, trio.student)
        assert eight_bit_of(trio.student) is None

    def test_its_tasks_keep_the_run_from_being_deleted(self, tmp_path):
        store, trio = copied(tmp_path)
        with (eight_bit_of(trio.student).task_lock("explain"), pytest.raises(UsageError, match=r"in use \(explain\)")):
            store.delete(trio.student.id)


class TestModel:
    def test_answers_what_the_file_does(self, form):
        images = to_tensor(np.stack([picture(0), picture(1)]), "cpu")
        seen = load_model(form).model(images, cams=True)
        found = OnnxSession(form.weights)(images.contiguous().numpy())
        assert np.allclose(seen.logits.numpy(), found["logits"])
        assert np.allclose(seen.cams.numpy(), found["class_maps"])
        assert [maps.shape for maps in seen.stages] == [found[name].shape for name in ("stage_1", "stage_2")]

    def test_is_near_the_student_and_not_equal(self, form, trio):
        images = to_tensor(picture()[None], "cpu")
        one, other = (load_model(run).model(images).stages[-1] for run in (form, trio.student))
        assert 0 < (one - other).abs().max() < 0.1 * other.abs().max()

    def test_its_cells_lie_where_the_students_do(self, form, trio):
        one, other = (placements(load_model(run).model, 32) for run in (form, trio.student))
        assert one == other

    def test_is_read_anew_after_another_export(self, tmp_path):
        _, trio = copied(tmp_path)
        form, pool = eight_bit_of(trio.student), ModelPool()
        first, marks = pool(form, 4), explanation_store.dependency_hashes({STUDENT: form})
        assert pool(form, 4) is first
        form.weights.write_bytes((report.folder_of(trio.student, "onnx") / "model.onnx").read_bytes())
        assert pool(form, 4) is not first
        assert explanation_store.dependency_hashes({STUDENT: form}) != marks


class TestExplainers:
    @pytest.mark.parametrize("name", list(EXPLAINERS))
    def test_exactly_those_that_need_forward_passes_alone_are_offered(self, form, name):
        model = load_model(form).model
        ask = (model, to_tensor(picture()[None], "cpu"), torch.tensor([1]))
        if name in offered([form]):
            found = EXPLAINERS[name](*ask)
            assert found.values.isfinite().all()
        elif name != "mask":
            with pytest.raises(UsageError, match=r"an 8-bit student's file computes forward only\. Choose stage maps"):
                EXPLAINERS[name](*ask)

    def test_which_they_are(self, form, trio):
        assert offered([trio.teacher, form]) == ("grad-cam", "stage-maps", "eigen-cam", "score-cam", "kernel-shap",
                                                 "occlusion")

    def test_without_class_maps_grad_cam_is_not_one_of_them(self, form, trio, store, monkeypatch):
        monkeypatch.setattr(type(form), "has_class_maps", False)
        assert "grad-cam" not in offered([trio.teacher, form])
        with pytest.raises(UsageError, match="Grad-CAM needs gradients"):
            compare(store, form, picture(), repeats=1)
        found = compare(store, form, picture(), repeats=1, explainer="stage-maps")
        assert found.explainers == ("stage-maps",)

    def test_grad_cam_is_near_the_students(self, form, trio):
        one, other = (explain(run, picture(), target=2, repeats=1).maps[0] for run in (form, trio.student))
        assert one.values.min() >= 0
        assert np.abs(one.values - other.values).max() < 0.1 * max(other.values.max(), 1e-9)
        assert one.placement == other.placement
        with pytest.raises(UsageError, match=r"Grad-CAM needs gradients.*or the student itself"):
            explain(form, picture(), stage=0, repeats=1)

    def test_several_targets_at_once(self, form):
        model, images = load_model(form).model, to_tensor(np.stack([picture(0), picture(1)]), "cpu")
        every = EXPLAINERS["grad-cam"](model, images, torch.tensor([[0, 1], [2, 3]])).values
        one = EXPLAINERS["grad-cam"](model, images, torch.tensor([1, 2])).values
        assert torch.equal(every[0, 1], one[0])
        assert torch.equal(every[1, 0], one[1])

    def test_what_needs_gradients_says_so(self, form):
        with pytest.raises(UsageError, match="stage by stage needs gradients"):
            read_layers(form, picture())
        found = check(load_model(form).model, explain(form, picture(), repeats=1))
        assert "has no gradients" in found.sentence


def test_compare_has_its_column_beside_the_student_and_in_its_place(store, trio, form):
    found = compare(store, trio.student, picture(), repeats=1, others=[form])
    assert [part.role for part in found.panels] == ["teacher", "control", STUDENT, EIGHT_BIT]
    part = found.panels[-1]
    assert part.label.endswith("8-bit")
    assert len(part.stage_maps.maps) == 2
    assert any("8-bit integers, computed by onnxruntime" in note for note in found.notes)
    alone = compare(store, form, picture(), repeats=1)
    assert np.array_equal(alone.student.explanation.maps[0].values, part.explanation.maps[0].values)
    assert alone.ratios()["forward"] > 0
    assert any("The student's stage maps come" in line for line in alone.figure_spec().notes)
    with pytest.raises(UsageError, match="LayerCAM needs gradients"):
        compare(store, trio.student, picture(), repeats=1, others=[form], explainer="layer-cam")


def test_a_slow_explanation_is_kept_with_it(tmp_path):
    store, trio = copied(tmp_path)
    form = eight_bit_of(trio.student)
    args = {"explainer": "occlusion", "image": 0, "target": "", "stage": -1}
    made = saved.compute(store, form, args, lambda *_: None, lambda: False)
    image = np.asarray(predict.data_of(form, store).test.images[0])
    assert np.array_equal(saved.load(form, saved.SavedKey(**args), image).maps[0].values, made.maps[0].values)
    assert saved.load(trio.student, saved.SavedKey(**args), image) is None


def test_its_explanations_are_evaluated(tmp_path):
    store, trio = copied(tmp_path)
    form = eight_bit_of(trio.student)
    with pytest.raises(UsageError, match="Sensitivity needs gradients"):
        evaluate_explanations(store, form, ["sensitivity"])
    found = evaluate_explanations(store, form, faithfulness=True, limit=8)["explainers"]["grad-cam"]
    assert found["models"]["student"]["label"] == form.label
    assert "sanity" in found["faithfulness"]["teacher"]
    assert "sanity" not in found["faithfulness"]["student"]
    assert found["cost"]["models"]["student"]["flops"] is None
    assert explanation_store.choices(trio.student) == []


class TestFigures:
    def test_are_of_the_file(self, form):
        found = form.figures
        assert form.weights.stat().st_size == found["int8"]["bytes"]
        assert list(found["maps"]) == list(PAIRS)
        for one in found["maps"].values():
            assert -1 <= one["low"] <= one["mean"] <= 1
            assert one["interval"][0] <= one["mean"] <= one["interval"][1]
        own = found["maps"]["int8_float32"]
        assert own["mean"] > 0.9 > own["chance"]
        assert own["worst"][0][1] == pytest.approx(form.maps["values"][0])
        assert form.maps["float32"].shape == form.maps["int8"].shape == (len(own["worst"]), 8, 8)

    def test_stand_beside_the_students(self, form, trio):
        found = {STUDENT: model_report(STUDENT, trio.student), EIGHT_BIT: model_report(EIGHT_BIT, form)}
        prices = [(row.measure, row.role) for row in rows.price_rows(found)]
        assert prices.count((f"{rows.FORWARD}, onnxruntime", EIGHT_BIT)) == 1
        assert [row.measure for row in rows.price_rows({STUDENT: found[STUDENT]})] == ["weights on disk"]
        change = rows.difference(found[STUDENT], found[EIGHT_BIT])
        assert change.value == pytest.approx(form.evaluation["accuracy"] - trio.student.evaluation["accuracy"])
        assert len(rows.map_rows(form)) == 2 * len(PAIRS)

    def test_are_shown_by_kd_show(self, trio, store, form):
        found = run_verb(parser().parse_args(["show", trio.student.id, "--root", str(store.paths.root)]))["exports"]
        assert [one["format"] for one in found] == ["onnx"]
        assert found[0]["int8"]["run"] == form.id
        assert found[0]["difference"] < 1e-5
        assert found[0]["int8"]["maps"]["int8_teacher"]["chance"] is not None

    def test_an_earlier_versions_are_left_out(self, tmp_path):
        (tmp_path / report.REPORT).write_text('{"int8": {"maps": {"mean": 0.9}}}')
        assert report.load(tmp_path)["int8"] is None


def test_the_teachers_maps_are_of_the_class_by_name(trio, store):
    data = predict.data_of(trio.student, store)
    test, classes = data.test, np.zeros(len(data.test), np.int64)
    one = TeacherMaps(trio.teacher, 32, data.classes)(test, classes)
    turned = TeacherMaps(trio.teacher, 32, data.classes[::-1])(test, classes + len(data.classes) - 1)
    assert np.array_equal(one, turned)
    model = predict.load(trio.teacher, 4)
    with torch.no_grad():
        expected = model(to_tensor(np.asarray(test.images[:1]), "cpu"), cams=True).cams[0, 0]
    assert np.allclose(one[0], expected.numpy(), atol=1e-5)


def test_agreement_names_the_worst_and_leaves_constant_maps_out():
    maps = np.zeros((3, 2, 2), np.float32)
    maps[:2] = [[0, 1], [2, 3]]
    turned = maps.copy()
    turned[1] = maps[1, ::-1, ::-1]
    found, values = agreement(maps, turned, ("a", "b", "c"))
    assert found.images == 2
    assert found.mean == pytest.approx(0)
    assert found.worst == (("b", pytest.approx(-1)), ("a", pytest.approx(1)))
    assert np.isnan(values[2])
    assert agreement(maps[2:], turned[2:], ("c",))[0] is None


def test_a_masked_students_form_hides_its_mask(form, trio):
    masked = replace(trio.student.spec, method="medtex", mask_net_depth=1, mask_net_width=4, mask_area=0.2,
                     mask_target="sensitivity")
    assert masked.without_mask_net.mask_net_depth == 0  # as `EightBit.spec` has it
    assert not load_model(form).model.has_mask


def test_a_report_has_the_8_bit_student_as_an_arm_and_outlines(store, trio, form, tmp_path):
    found = Report(build(store, form, str(tmp_path / "report.html")).read_text())
    assert found.row("Accuracy")[4].startswith(percent(form.evaluation["accuracy"]))
    assert "8-bit student" in next(row for row in found.rows if "Baseline" in row)
    assert "points" in found.row("Accuracy, 8-bit student − student")[1]
    captions = [image["alt"] for image in found.images]
    assert any(text.startswith("Grad-CAM of the 8-bit student") for text in captions)
    assert any("the outlined evidence lies" in text for text in captions)
