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
from kd.paths import Paths
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

    def count(explainer, model, images, targets, stage, progress):
        asked.update(zip([image.tobytes() for image in images], targets.tolist(), strict=True))
        return original(explainer, model, images, targets, stage, progress)

    original = module.explain_batchwise
    monkeypatch.setattr(module, "explain_batchwise", count)
    bench = make("grad-cam", AGREEMENT, LOCALISATION, FAITHFULNESS)
    for kind in (LOCALISATION, AGREEMENT, FAITHFULNESS, LOCALISATION):
        bench.heatmaps("teacher", kind)
    assert set(asked.values()) == {1}


def test_posthoc_asks_for_the_usual_maps_together_and_for_others_alone(make, monkeypatch):
    asked = []

    def note(explainer, model, images, targets, stage, progress):
        asked.append((explainer, stage, len(images)))
        return original(explainer, model, images, targets, stage, progress)

    original = module.explain_batchwise
    monkeypatch.setattr(module, "explain_batchwise", note)
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
