"""What sections share: how far all of them have come, and maps that are made once."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_runs import CONTROL, TEACHER, made, student_spec
from small import DATA, small_data

from kd.datasets.tensors import to_tensor
from kd.evaluation import context as module
from kd.evaluation.context import EvalContext
from kd.evaluation.explanation_store import AGREEMENT, FAITHFULNESS, LOCALISATION, POSTHOC, EvalKey
from kd.explainers import EXPLAINERS
from kd.inference.choice import VARIABLE
from kd.inference.fast_model import FastModel
from kd.paths import Paths, default_paths
from kd.store.runs import Store


def nothing(share):
    """No progress."""


@pytest.fixture
def make(own_root):
    """A bench of teacher, control and explained student with random weights, for a choice and sections."""
    store = Store(Paths(own_root))
    data = small_data(store.paths)
    teacher = made(store, replace(TEACHER, data=DATA), data.classes)
    runs = {"teacher": teacher, "control": made(store, replace(CONTROL, data=DATA), data.classes),
            "student": made(store, replace(student_spec(teacher), data=DATA, method="medtex", method_args={},
                                           mask_net_depth=2, mask_net_width=4), data.classes)}
    return lambda name, *kinds, pulse=nothing: EvalContext(runs, data, EvalKey(name, limit=8), pulse, set(kinds))


def test_each_model_is_asked_by_what_it_has(make):
    bench = make("mask", LOCALISATION)
    assert {role: bench.explainer_name(role) for role in bench.runs} == {
        "teacher": "grad-cam", "control": "grad-cam", "student": "mask"}
    assert make("layer-cam", LOCALISATION).explainer_name("student") == "layer-cam"
    torch.manual_seed(0)
    torch.nn.init.normal_(bench.model("student").mask_net.score.weight)  # an untrained mask is open everywhere
    maps, blank, laid = bench.heatmaps("student", LOCALISATION)
    assert laid is None  # it lies on the image's own grid
    assert maps.shape == (8, 32, 32) and not blank.any()
    with torch.no_grad():
        masks = bench.model("student").predict_mask(to_tensor(bench.images)).numpy()
    for one, mask in zip(maps, masks, strict=True):
        assert np.corrcoef(one.ravel(), mask.ravel())[0, 1] == pytest.approx(1)


def test_a_map_is_made_once_for_all_sections(make, monkeypatch):
    asked = Counter()

    def counted(original):
        def count(explainer, model, given, targets, *rest):
            asked.update(zip([np.asarray(one).tobytes() for one in given], targets.tolist(), strict=True))
            return original(explainer, model, given, targets, *rest)

        return count

    for name in ("explain_batchwise", "explain_features"):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    bench = make("grad-cam", AGREEMENT, LOCALISATION, FAITHFULNESS)
    for kind in (LOCALISATION, AGREEMENT, FAITHFULNESS, LOCALISATION):
        bench.heatmaps("teacher", kind)
    assert set(asked.values()) == {1}


@pytest.mark.parametrize("name", ["grad-cam", "hires-cam"])
def test_maps_of_the_last_stage_take_no_second_pass(make, name, monkeypatch):
    bench = make(name, FAITHFULNESS)
    explainer, model = EXPLAINERS[name], bench.model("teacher")
    expected = module.explain_batchwise(explainer, model, bench.images, bench.targets("teacher", FAITHFULNESS))
    monkeypatch.setattr(type(model), "features_at", lambda *_: pytest.fail("a second pass"))
    maps, blank, _ = bench.heatmaps("teacher", FAITHFULNESS)
    np.testing.assert_allclose(maps, expected[0], atol=1e-4)
    assert (blank == expected[1]).all()


def test_large_features_are_not_kept(make, monkeypatch):
    whole = make("grad-cam", FAITHFULNESS)
    kept = whole.logits("teacher")
    assert [*whole._features] == ["teacher"]
    monkeypatch.setattr(module, "KEPT", 0)
    bench = make("grad-cam", FAITHFULNESS)
    np.testing.assert_allclose(bench.logits("teacher"), kept, rtol=1e-4, atol=1e-4)
    assert bench._features == {}
    assert len(bench.heatmaps("teacher", FAITHFULNESS).maps) == 8


def test_with_another_engine_the_results_stay(make, monkeypatch):
    exact = make("grad-cam", FAITHFULNESS).heatmaps("teacher", FAITHFULNESS)
    monkeypatch.setenv(VARIABLE, "openvino")
    bench = make("grad-cam", FAITHFULNESS)
    bench.paths = default_paths()
    found = bench.heatmaps("teacher", FAITHFULNESS)
    assert isinstance(bench.answering("teacher"), FastModel)
    np.testing.assert_allclose(found.maps, exact.maps, atol=1e-3)


def test_posthoc_asks_for_the_usual_maps_together_and_for_others_alone(make, monkeypatch):
    asked = []

    def note(explainer, model, images, targets, stage, progress):
        asked.append((explainer, stage, len(images)))
        return original(explainer, model, images, targets, stage, progress)

    def note_features(explainer, model, features, targets, progress):
        asked.append((explainer, -1, len(features)))
        return of_features(explainer, model, features, targets, progress)

    original, of_features = module.explain_batchwise, module.explain_features
    monkeypatch.setattr(module, "explain_batchwise", note)
    monkeypatch.setattr(module, "explain_features", note_features)
    bench = make("mask", POSTHOC)
    bench.heatmaps("teacher", AGREEMENT, "grad-cam", -1)
    bench.heatmaps("teacher", LOCALISATION, "grad-cam", -1)
    bench.heatmaps("teacher", AGREEMENT, "layer-cam", 0)
    assert [(explainer, stage) for explainer, stage, _ in asked] == [
        (EXPLAINERS["grad-cam"], -1), (EXPLAINERS["layer-cam"], 0)]
    assert asked[1][2] == 8 <= asked[0][2]


def test_models_and_answers_are_handed_on_to_the_next_choice(make):
    first = make("mask", LOCALISATION)
    first.logits("student")
    second = EvalContext(first.runs, first.data, EvalKey("grad-cam", limit=8), nothing, {LOCALISATION}, first)
    assert second.model("student") is first.model("student")
    assert second.logits("student") is first.logits("student")


def test_evidence_is_drawn_where_the_set_says_so(make):
    bench = make("grad-cam", LOCALISATION)
    assert bench.evidence_masks.shape == (len(bench.evidence), 32, 32)
    assert all(mask.any() for mask in bench.evidence_masks)
    assert bench.groups_of(bench.evidence) == ([bench.groups[number] for number in bench.evidence] if bench.groups
                                               else None)
