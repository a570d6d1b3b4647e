import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_runs import TEACHER, made
from small import trained

from kd.datasets import open_dataset, take_fraction
from kd.datasets.tensors import to_tensor
from kd.errors import Stopped, UsageError
from kd.evaluation import predict
from kd.inspection import linear_probes
from kd.paths import Paths
from kd.store.runs import Store

LEARNT = {"data": "phantom-brain:count=240,difficulty=0", "epochs": 15, "width": 8, "depth": 4, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Paths(tmp_path_factory.mktemp("readout"))


@pytest.fixture(scope="module")
def run(place):
    """A student that has learnt something; its read-outs are fitted."""
    run = trained(Store(place), **LEARNT)
    linear_probes.fit(Store(place), run)
    return run


@pytest.fixture
def data(run, place):
    return open_dataset(run.spec.data, run.spec.image_size, place)


def test_every_stage_knows_more_than_chance_and_the_last_what_the_model_knows(run):
    facts = linear_probes.summary(run)
    scores = [stage["test_accuracy"] for stage in facts["stages"]]
    chance, model = facts["chance"]["test_accuracy"], facts["model"]["test_accuracy"]
    assert chance == pytest.approx(0.25, abs=0.05)
    assert model == pytest.approx(run.summary["accuracy"], abs=0.05)  # in other batches, an image near a tie may flip
    assert scores[0] > chance
    assert scores[-1] > scores[0]
    assert scores[-1] == pytest.approx(model, abs=0.1)
    assert [stage["name"] for stage in facts["stages"]] == [f"layer {number}" for number in (1, 2, 3, 4)]


def test_stated_accuracies_are_those_of_what_is_kept(run, data):
    found = linear_probes.load(run)
    model = predict.load(run, 4)
    with torch.no_grad():
        seen = model(to_tensor(data.test.images))
    probabilities = found.probabilities(seen.stages)
    assert probabilities.shape == (len(data.test), 4, 4)
    assert np.allclose(probabilities.sum(axis=2), 1)
    for stage, layer in enumerate(found.layers):
        right = probabilities[:, stage].argmax(axis=1) == data.test.labels
        assert right.mean() == pytest.approx(layer.facts["test_accuracy"], abs=1e-9)


def test_it_is_the_minimum_of_the_stated_problem(run, data):
    """A convex problem has one minimum: there the gradient of the penalised loss on the training images is zero."""
    model = predict.load(run, 4)
    with torch.no_grad():
        stages = model(to_tensor(data.train.images)).stages
    labels = torch.from_numpy(np.asarray(data.train.labels))
    for layer, features in zip(linear_probes.load(run).layers, stages, strict=True):
        x = (linear_probes.global_average(features).double() - layer.mean) * layer.gain
        assert torch.allclose(x.mean(dim=0), torch.zeros_like(layer.mean), atol=1e-4)
        weight, bias = layer.weight.clone().requires_grad_(), layer.bias.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, labels)
        (loss + layer.facts["strength"] / 2 * weight.square().sum()).backward()
        assert weight.grad.abs().max() < 1e-3
        assert bias.grad.abs().max() < 1e-3


def test_the_same_run_gives_the_same_read_outs_and_the_generator_stays(run, place):
    linear_probes.fit(Store(place), run)
    kept = (run.path / linear_probes.FILE).read_bytes()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    linear_probes.fit(Store(place), run)
    assert (run.path / linear_probes.FILE).read_bytes() == kept
    assert torch.equal(torch.rand(3), expected)


def test_shares_rise_to_the_end_and_stopping_keeps_what_was_there(run, place):
    kept = (run.path / linear_probes.FACTS).read_text()
    said = []
    linear_probes.fit(Store(place), run, lambda phase, share: said.append((phase, share)))
    shares = [share for _, share in said]
    assert shares == sorted(shares)
    assert {"extracting features of the train images", "training the linear probe of layer 4"} <= {
        phase for phase, _ in said}
    for batches in range(0, 60, 7):
        count = iter(range(10**6))
        with pytest.raises(Stopped):
            linear_probes.fit(Store(place), run, should_stop=lambda limit=batches, count=count: next(count) >= limit)
    assert json.loads((run.path / linear_probes.FACTS).read_text())["stages"] == json.loads(kept)["stages"]


def test_only_the_images_the_run_learnt_from_are_fitted(place, data):
    part = trained(Store(place), **{**LEARNT, "epochs": 1, "data_fraction": 0.5})
    found = linear_probes.fit(Store(place), part)
    assert found.facts["images"]["train"] == len(take_fraction(data.train, 0.5, 4)) < len(data.train)


def test_a_large_set_is_drawn_from(run, place, monkeypatch):
    monkeypatch.setattr(linear_probes, "MOST_IMAGES", 60)
    monkeypatch.setattr(linear_probes, "_save", lambda run, found: None)
    assert linear_probes.fit(Store(place), run).facts["images"]["train"] == pytest.approx(60, abs=4)


def test_a_channel_that_never_changes_is_left_out_and_a_diverged_model_refused(place):
    labels = {"train": torch.tensor([0, 1] * 20), "val": torch.tensor([0, 1])}
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(40, 3, generator=generator)
    train[:, 1] = 5 + 1e-6 * train[:, 1]
    train[:, 2] += 4 * labels["train"]
    features = {"train": train, "val": torch.tensor([[0.0, 900.0, 0.0], [0.0, 5.0, 4.0]])}
    found = linear_probes._fit_probe(0, "stage", features, labels, 2, lambda: False)
    assert found.gain[1] == 0
    assert found.logits(features["val"]).argmax(dim=1).tolist() == [0, 1]
    features["train"][3, 0] = float("nan")
    with pytest.raises(UsageError, match="the run diverged"):
        linear_probes._fit_probe(0, "stage", features, labels, 2, lambda: False)


def test_what_cannot_be_read_out_is_said(place):
    store = Store(place)
    with pytest.raises(UsageError, match="not finished"):
        linear_probes.fit(store, made(store, replace(TEACHER, seed=3), finished=False))
    changed = made(store, replace(TEACHER, data="phantom-brain:count=60", data_fingerprint="0000"))
    with pytest.raises(UsageError, match="has changed since"):
        linear_probes.fit(store, changed)
    assert linear_probes.load(changed) is None
