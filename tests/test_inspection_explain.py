import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_runs import CLASSES, CONTROL, TEACHER, explained_spec, made, made_explained_trio, picture

from kd.datasets.tensors import to_tensor
from kd.errors import Stopped, UsageError
from kd.explainers import EXPLAINERS
from kd.inspection import figure
from kd.inspection.explain import ExplainRequest, explain, explain_many
from kd.inspection.model_pool import ModelPool, load_model
from kd.store.runs import Store

pytestmark = pytest.mark.usefixtures("few_samples")


@pytest.fixture
def run():
    return made(Store(), TEACHER)


@pytest.fixture
def masked(run):
    """A student behind a mask."""
    return made(Store(), explained_spec(run))


@pytest.mark.parametrize("name", list(EXPLAINERS))
def test_an_explanation_holds_the_explainers_own_map(run, masked, name):
    run = masked if name == "mask" else run
    found = explain(run, picture(), name, target="meningioma", repeats=1)
    model = load_model(run).model
    expected = EXPLAINERS[name](model, to_tensor(picture()[None]), torch.tensor([1]))
    [heat] = found.maps
    assert np.array_equal(heat.values, expected.values[0].numpy())
    assert np.array_equal(heat.scaled, expected.scaled()[0].numpy())
    assert heat.blank == bool(expected.blank[0])
    assert heat.stage == (1 if name == "sensitivity" else len(model.stages) - 1)
    assert heat.placement == EXPLAINERS[name].placement(model, heat.stage, 32)
    assert found.target == 1


def test_the_default_target_is_the_predicted_class(run):
    found = explain(run, picture(), repeats=1)
    assert found.probabilities.sum() == pytest.approx(1)
    assert found.target == found.predicted == found.probabilities.argmax()


def test_all_stages_come_in_their_order(run):
    found = explain(run, picture(), "stage-maps", stage=None, repeats=1)
    model = load_model(run).model
    assert [heat.stage for heat in found.maps] == list(range(len(model.stages)))
    assert [heat.name for heat in found.maps] == [stage.name for stage in model.stages]
    assert [heat.values.shape[0] for heat in found.maps] == [-(-32 // stage.reduction) for stage in model.stages]


def test_times_have_a_protocol(run):
    found = explain(run, picture(), repeats=3)
    assert found.timing.n == found.forward.n == 3
    assert found.timing.warmup == 1
    assert 0 < found.timing.low <= found.timing.median <= found.timing.high
    assert found.ratio > 0
    assert found.protocol["threads"] == torch.get_num_threads()
    assert (found.protocol["device"], found.protocol["batch"], found.protocol["image_size"]) == ("cpu", 1, 32)
    with pytest.raises(ValueError, match="repeats"):
        explain(run, picture(), repeats=0)


def test_cost_is_the_runs_own_and_grows_with_the_picture(run):
    small, large = (explain(run, picture(side=side), repeats=1) for side in (32, 64))
    assert small.flops == run.summary["flops"]
    assert small.parameters == large.parameters == run.summary["parameters"]
    assert 3 < large.flops / small.flops < 5


def test_bad_choices_are_named(run):
    with pytest.raises(UsageError, match="Did you mean 'grad-cam'"):
        explain(run, picture(), "gradcam")
    with pytest.raises(UsageError, match="class 'tumour'"):
        explain(run, picture(), target="tumour")
    with pytest.raises(UsageError, match="no stage 9"):
        explain(run, picture(), stage=9)


def test_the_mask_of_one_run_that_has_none_is_refused_with_the_way_out(run):
    with pytest.raises(UsageError, match=rf"{run.id} has no mask: .* Ask by grad-cam"):
        explain(run, picture(), "mask")


def test_asked_together_every_model_answers_by_what_suits_it(run, tmp_path):
    _, _, student = made_explained_trio(Store())
    asked = [ExplainRequest(load_model(one), "mask", 0, stages) for one, stages in ((run, None), (student, None))]
    cams, mask = explain_many(asked, picture(), 1)
    assert (cams.explainer, mask.explainer) == ("grad-cam", "mask")
    assert (len(cams.maps), len(mask.maps)) == (len(load_model(run).model.stages), 1)
    assert {name for name in cams.arrays() if not name.endswith("_placement")} == {
        "grad-cam_layer01", "grad-cam_layer02", "grad-cam_layer03"}
    assert {*mask.arrays()} == {"mask_picture", "mask_picture_placement"}
    assert (cams.to_json()["explainer"], mask.to_json()["explainer"]) == ("grad-cam", "mask")
    assert "Grad-CAM for “glioma”" in cams.figure_spec().rows[0].title
    assert mask.figure_spec().rows[0].title.endswith(" · Mask")
    assert mask.save(tmp_path)["explanation.png"].exists()


def test_eight_threads_equal_one(run, masked):
    store, pool = Store(), ModelPool(limit=1)  # so small that models are dropped and loaded again meanwhile
    runs = [run, made(store, CONTROL)]
    quick = [name for name in EXPLAINERS if EXPLAINERS[name].info.cost == "instant"]
    work = [(runs[n % 2], n % 4, quick[n % len(quick)], n % 3) for n in range(32)]

    def one(job):
        asked, seed, name, target = job
        asked = masked if name == "mask" else asked
        return explain(asked, picture(seed), name, target=target, stage=None, repeats=1, pool=pool)

    expected = [one(job) for job in work]
    with ThreadPoolExecutor(8) as threads:
        for mine, alone in zip(threads.map(one, work), expected, strict=True):
            assert np.array_equal(mine.probabilities, alone.probabilities)
            for left, right in zip(mine.maps, alone.maps, strict=True):
                assert np.array_equal(left.values, right.values)


def test_saved_files_hold_what_was_found(run, tmp_path):
    found = explain(run, picture(), "stage-maps", stage=None, repeats=1)
    paths = found.save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(paths)
    said = json.loads(paths["explanation.json"].read_text())
    assert said["run"] == run.id
    assert said["probabilities"].keys() == set(CLASSES)
    with np.load(paths["maps.npz"]) as stored:
        assert np.array_equal(stored["image"], picture())
        for heat in found.maps:
            assert np.array_equal(stored[f"stage-maps_layer{heat.stage + 1:02d}"], heat.values)
            assert stored[f"stage-maps_layer{heat.stage + 1:02d}_placement"].tolist() == [
                list(heat.placement.first), list(heat.placement.step)]
    assert [one["placement"] for one in said["maps"]] == [heat.placement.to_json() for heat in found.maps]
    assert paths["explanation.png"].read_bytes().startswith(b"\x89PNG")


def test_a_diverged_model_gives_blank_maps_and_finite_json(run, masked, tmp_path):
    pool = ModelPool()
    for one in (run, masked):
        pool(one, len(CLASSES)).pooled_linear.weight.fill_(float("nan"))
    for name in EXPLAINERS:
        asked = masked if name == "mask" else run
        found = explain(asked, picture(), name, target=0, repeats=1, pool=pool)
        assert found.maps[0].blank == EXPLAINERS[name].info.class_specific
        said = json.dumps(found.to_json(), allow_nan=False)
        assert json.loads(said)["probabilities"]["glioma"] is None
        assert found.save(tmp_path / name)["explanation.png"].exists()


def test_a_model_that_looks_nowhere_is_said_to_be_blank(run):
    pool = ModelPool()
    pool(run, len(CLASSES)).pooled_linear.weight.zero_()
    assert explain(run, picture(), repeats=1, pool=pool).to_json()["maps"][0]["blank"] is True


def test_an_unfinished_run_is_said_to_be_unfinished():
    run = made(Store(), replace(TEACHER, seed=5), finished=False)
    run.log("cancelled")
    found = explain(run, picture(), repeats=1)
    assert "best weights so far" in found.note
    assert found.flops > 0


def test_a_slow_explainer_runs_once_and_says_how_far_it_is(run):
    told = []
    found = explain(run, picture(), "score-cam", stage=None, repeats=3, progress=told.append)
    assert (found.timing.n, found.timing.warmup, found.forward.n) == (1, 0, 3)
    assert found.ratio == pytest.approx(found.timing.median / found.forward.median)
    assert told == sorted(told) and told[-1] == 1 and len(told) > 3


def test_several_slow_ones_share_the_progress(run):
    subject, told = load_model(run), []
    names = ("occlusion", "grad-cam", "integrated-gradients")
    answers = explain_many([ExplainRequest(subject, name, 0) for name in names], picture(), 1, told.append)
    assert [one.explainer for one in answers] == list(names)
    assert told == sorted(told)
    assert any(0.5 < share < 1 for share in told)


def test_progress_may_stop_it(run):
    def stop(share):
        raise Stopped

    with pytest.raises(Stopped):
        explain(run, picture(), "occlusion", repeats=1, progress=stop)


def test_maps_on_the_picture_come_once_and_are_of_no_layer(run, tmp_path):
    found = explain(run, picture(), "integrated-gradients", stage=None, repeats=1)
    [heat] = found.maps
    assert heat.signed and heat.label == "image · 32×32"
    assert "stage" not in found.to_json()["maps"][0]
    with np.load(found.save(tmp_path)["maps.npz"]) as stored:
        assert np.array_equal(stored["integrated-gradients_picture"], heat.values)


def test_signed_maps_keep_their_own_colours(run):
    """No colour map that a person may choose recolours what speaks for and against."""
    found = explain(run, picture(), "hires-cam", repeats=1)
    assert found.maps[0].values.min() < 0 < found.maps[0].values.max()
    assert all(tile.signed for tile in found.tiles())
    sheet = found.figure_spec()
    assert figure.draw(sheet, 1.0, "viridis") == figure.draw(sheet, 1.0, "inferno")
