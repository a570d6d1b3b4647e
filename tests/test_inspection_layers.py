import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from lanes import slow
from made_runs import CLASSES, CONTROL, TEACHER, made, picture
from small import trained

from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.explainers import EXPLAINERS
from kd.inspection import layer_report, layers, linear_probes
from kd.inspection.model_pool import ModelPool, load_model
from kd.models import receptive_field
from kd.spec import RunSpec
from kd.store.runs import Store

POOLED = [TEACHER, RunSpec(model="test_resnet", image_size=64),
          RunSpec(model="truncated", base="test_resnet", depth=2, image_size=64)]
# More layers than one behind the last stage.
HEADED = [RunSpec(model="test_convnext", image_size=64), *slow(RunSpec(model="mobilenetv3_small_050", image_size=64))]


@pytest.fixture
def run():
    return made(Store(), TEACHER)


def features_and_model(run, image):
    model = load_model(run).model
    with torch.no_grad():
        return model(to_tensor(image[None])), model


@pytest.mark.parametrize("spec", POOLED + HEADED, ids=lambda spec: spec.model)
class TestEveryKindOfModel:
    def test_maps_are_of_every_stage_and_sum_to_the_channels(self, spec):
        run, image = made(Store(), spec), picture(side=spec.image_size)
        found = layers.read_layers(run, image, target=1, repeats=1)
        seen, model = features_and_model(run, image)
        assert [view.name for view in found.stages] == [stage.name for stage in model.stages]
        for view, features in zip(found.stages, seen.stages, strict=True):
            np.testing.assert_allclose(view.stage_map.values, features[0].mean(dim=0).numpy(), rtol=1e-4, atol=1e-6)
            assert view.contributions.shape == (features.shape[1],)
            np.testing.assert_allclose(view.weighted.values.sum(), view.contributions.sum(), rtol=1e-3, atol=1e-4)
            assert view.weighted.scaled.min() >= 0

    def test_the_field_is_geometrys_and_holds_the_peaks_centre(self, spec):
        run, image = made(Store(), spec), picture(side=spec.image_size)
        sides = receptive_field.receptive_fields(spec)
        for view, side in zip(layers.read_layers(run, image, target=0, repeats=1).stages, sides, strict=True):
            if view.weighted.blank:
                assert view.peak is view.field is None
                continue
            rows, columns = view.weighted.values.shape
            assert view.weighted.values[view.peak] == view.weighted.values.max()
            assert view.field == receptive_field.receptive_field_of(spec, view.number, view.peak)
            y, x = (view.peak[0] + 0.5) * image.shape[0] / rows, (view.peak[1] + 0.5) * image.shape[1] / columns
            assert view.field.top <= y <= view.field.bottom
            assert view.field.left <= x <= view.field.right
            assert max(view.field.bottom - view.field.top, view.field.right - view.field.left) <= side


@pytest.mark.parametrize("spec", POOLED, ids=lambda spec: spec.model)
def test_the_last_stage_is_exact_in_front_of_pooling_and_a_linear_layer(spec):
    """Channels and bias sum to the logit, and the map is Grad-CAM before its ReLU."""
    run, image = made(Store(), spec), picture(side=spec.image_size)
    seen, model = features_and_model(run, image)
    pooled = seen.stages[-1][0].mean(dim=(1, 2))
    for target in range(len(CLASSES)):
        found = layers.read_layers(run, image, target=target, repeats=1)
        last = found.stages[-1]
        np.testing.assert_allclose(last.contributions, (model.pooled_linear.weight[target] * pooled).numpy(), rtol=1e-4,
                                   atol=1e-6)
        assert last.contributions.sum() + found.bias == pytest.approx(float(seen.logits[0, target]), rel=1e-4, abs=1e-5)
        cam = EXPLAINERS["grad-cam"](model, to_tensor(image[None]), torch.tensor([target])).values[0].numpy()
        np.testing.assert_allclose(np.maximum(last.weighted.values, 0), cam, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spec", HEADED, ids=lambda spec: spec.model)
def test_no_exact_sum_is_claimed_behind_another_head(spec):
    assert layers.read_layers(made(Store(), spec), picture(side=spec.image_size), repeats=1).bias is None


def test_a_field_away_from_the_rim_has_the_stages_full_size():
    spec = replace(TEACHER, depth=2, image_size=96)
    run = made(Store(), spec)
    sides = receptive_field.receptive_fields(spec)
    inner = [(view, side) for seed in range(4)
             for view, side in zip(layers.read_layers(run, picture(seed, 96), repeats=1).stages, sides, strict=True)
             if view.field and min(view.peak) > 2 and max(view.peak) < view.weighted.values.shape[0] - 3]
    assert inner
    for view, side in inner:
        assert (view.field.bottom - view.field.top, view.field.right - view.field.left) == (side, side)


def test_what_is_said_to_be_class_specific_is_and_the_rest_is_not(run):
    readouts = {"stage": lambda view: view.stage_map.values, "weighted": lambda view: view.weighted.values,
                "channels": lambda view: view.contributions}
    first, second = (layers.read_layers(run, picture(), target=target, repeats=1) for target in (0, 1))
    for name, look in readouts.items():
        same = all(np.array_equal(look(one), look(other))
                   for one, other in zip(first.stages, second.stages, strict=True))
        assert same is not layer_report.LAYER_PLOTS[name].class_specific, name


def test_channels_are_the_largest_with_their_own_maps(run):
    found = layers.read_layers(run, picture(), top=3, repeats=1)
    seen, _ = features_and_model(run, picture())
    for view, features in zip(found.stages, seen.stages, strict=True):
        numbers = [one.number for one in view.channels]
        assert numbers == np.argsort(-view.contributions, kind="stable")[:3].tolist()
        for one in view.channels:
            assert one.contribution == view.contributions[one.number]
            np.testing.assert_array_equal(one.map.values, features[0, one.number].numpy())
    assert len(layers.read_layers(run, picture(), top=999, repeats=1).stages[0].channels) == 8


def test_an_early_contribution_is_what_the_gradient_says(run):
    """Scaling one channel of a stage by 1 + ε changes the logit by ε times its contribution."""
    found = layers.read_layers(run, picture(), target=2, repeats=1)
    seen, model = features_and_model(run, picture())
    step = 1e-3
    for channel in range(8):
        moved = [seen.stages[0].clone() for _ in range(2)]
        logits = []
        for features, sign in zip(moved, (1, -1), strict=True):
            features[:, channel] *= 1 + sign * step
            with torch.no_grad():
                for layer in model.layers[1:]:
                    features = layer(features)
                logits.append(float(model.forward_head(features)[0, 2]))
        slope = (logits[0] - logits[1]) / (2 * step)
        assert slope == pytest.approx(found.stages[0].contributions[channel], rel=0.1, abs=2e-3)


def test_the_decision_as_it_forms_ends_in_the_models_own():
    store = Store()
    run = trained(store)
    image = picture()
    before = layers.read_layers(run, image, repeats=1)
    assert before.decision is None
    assert "no linear probes yet" in before.notes[0]
    readouts = linear_probes.fit(store, run)
    found = layers.read_layers(run, image, repeats=1)
    seen, _ = features_and_model(run, image)
    assert found.decision.shape == (len(found.stages) + 1, 4)
    np.testing.assert_allclose(found.decision.sum(axis=1), 1)
    np.testing.assert_array_equal(found.decision[-1], found.probabilities)
    np.testing.assert_allclose(found.decision[:-1], readouts.probabilities(seen.stages)[0], rtol=1e-5)
    assert found.notes == ()
    assert found.accuracies == linear_probes.summary(run)
    assert found.to_json()["stages"][0]["probabilities"].keys() == set(found.classes)


@pytest.mark.parametrize(("answers", "stage"), [((1, 1, 1), 0), ((0, 1, 1), 1), ((1, 0, 1), 2), ((1, 1, 0), None)])
def test_the_decision_has_settled_once_no_read_out_answers_otherwise(run, answers, stage):
    found = layers.read_layers(run, picture(), repeats=1)
    assert found.decided_at is None  # without read-outs
    views = tuple(replace(view, probabilities=np.eye(3)[answer])
                  for view, answer in zip((found.stages * 3)[:3], answers, strict=True))
    read = replace(found, stages=views, logits=np.array([0.0, 2.0, 1.0], np.float32))
    assert read.decided_at == stage


def test_nothing_of_the_model_is_changed(run):
    model = load_model(run).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers.read_layers(run, picture(), repeats=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


def test_eight_threads_equal_one(run):
    store, pool = Store(), ModelPool(limit=1)
    runs = [run, made(store, CONTROL), made(store, POOLED[1])]
    work = [(runs[n % 3], n % 4, n % 3) for n in range(24)]

    def one(job):
        asked, seed, target = job
        return layers.read_layers(
            asked, picture(seed, asked.spec.image_size), target=target, repeats=1, pool=pool
        ).arrays()

    expected = [one(job) for job in work]
    with ThreadPoolExecutor(8) as threads:
        for mine, alone in zip(threads.map(one, work), expected, strict=True):
            assert mine.keys() == alone.keys()
            assert all(np.array_equal(mine[name], alone[name]) for name in mine)


def test_saved_files_hold_what_was_found(run, tmp_path):
    found = layers.read_layers(run, picture(), target="meningioma", repeats=2)
    paths = found.save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(paths)
    said = json.loads(paths["layers.json"].read_text())
    assert (said["run"], said["target"]) == (run.id, "meningioma")
    assert said["timing"]["n"] == 2
    assert said["ratio"] > 0
    with np.load(paths["maps.npz"]) as stored:
        assert np.array_equal(stored["image"], picture())
        for view in found.stages:
            assert np.array_equal(stored[f"weighted_layer{view.number + 1:02d}"], view.weighted.values)
    assert paths["layers.png"].read_bytes().startswith(b"\x89PNG")


def test_a_diverged_model_is_blank_and_its_json_finite(run, tmp_path):
    pool = ModelPool()
    pool(run, len(CLASSES)).pooled_linear.weight.fill_(float("nan"))
    found = layers.read_layers(run, picture(), repeats=1, pool=pool)
    assert all(view.weighted.blank and view.field is None for view in found.stages)
    assert not found.stages[0].stage_map.blank
    json.dumps(found.to_json(), allow_nan=False)
    assert found.save(tmp_path)["layers.png"].exists()


def test_bad_choices_are_named(run):
    with pytest.raises(UsageError, match="class 'tumour'"):
        layers.read_layers(run, picture(), target="tumour")
    with pytest.raises(UsageError, match="at least 1, not 0"):
        layers.read_layers(run, picture(), top=0)
    assert (
        "best weights so far"
        in layers.read_layers(made(Store(), replace(TEACHER, seed=5), finished=False), picture(), repeats=1).notes[0]
    )
