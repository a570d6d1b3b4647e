"""Target maps of a mask network: moved as the images are, computed once, and of the teacher's own answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from made_runs import made
from small import explainer_of, small_data, spec

from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.evaluation import predict
from kd.explainers import EXPLAINERS
from kd.explainers.sensitivity import Sensitivity
from kd.store.runs import Store
from kd.torch_utils.resize import upsample
from kd.training.batches import TrainBatches
from kd.training.teacher.cached_network import without_outputs
from kd.training.teacher.cached_teacher import CachedTeacher
from kd.training.teacher.rows import build_method
from kd.training.teacher.target_maps import OUTPUT, TargetMaps, target_maps


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def data(store):
    return small_data(store.paths)


@pytest.fixture
def teacher(store, data):
    return made(store, spec(model="test_resnet"), data.classes)


def masked(teacher, **changes):
    return spec(**{"method": "medtex", "teacher": teacher.id, "views": 3, **explainer_of("medtex"), **changes})


def targets(store, teacher, data, about, subset=None, report=lambda share: None) -> TargetMaps:
    method = build_method(about, teacher.spec, len(data.classes))
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    cached = CachedTeacher(teacher, about, data, method, fabric)
    subset = np.arange(len(data.train)) if subset is None else subset
    return target_maps(about, data, cached, store, store.create(about), subset, report)


def batches(data, about, subset=None):
    subset = np.arange(len(data.train)) if subset is None else subset
    found = TrainBatches(data.train, subset, 8, 0, about.views, data.info.flip, about.augmentation)
    return without_outputs(found, 1, torch.device("cpu"))


@pytest.mark.parametrize("views", [0, 3])
def test_a_target_is_moved_as_its_image_is(teacher, data, views):
    about = masked(teacher, views=views, augmentation=1.0)
    red = TargetMaps(lambda numbers: data.train.images[numbers, :, :, 0] / np.float32(255), about, data.info.flip)
    for batch, outputs in red.added(batches(data, about)):
        torch.testing.assert_close(outputs[OUTPUT], batch.images[:, 0])


def test_outlines_are_those_of_the_training_images(store, teacher, data):
    about = masked(teacher, mask_target="outlines", views=0)
    for batch, outputs in targets(store, teacher, data, about).added(batches(data, about)):
        assert torch.equal(outputs[OUTPUT], torch.from_numpy(data.train.evidence[batch.numbers] / np.float32(255)))
    bare = replace(data, train=replace(data.train, has_evidence=np.zeros(len(data.train), bool)))
    with pytest.raises(UsageError, match="no training image comes with one. Choose sensitivity"):
        targets(store, teacher, bare, about)


def test_sensitivity_is_the_explainers_for_the_teachers_answer_computed_once(store, teacher, data, monkeypatch):
    counted, real = [], Sensitivity._maps
    monkeypatch.setattr(Sensitivity, "_maps", lambda self, model, images, *rest: counted.append(len(images)) or real(
        self, model, images, *rest))
    about, subset, shares = masked(teacher, views=0), np.arange(2, 20), []
    first = targets(store, teacher, data, about, subset, shares.append)
    assert sum(counted) == len(subset) + 1, "one more for the side of the maps"
    assert shares[0] == 0 and shares == sorted(shares)
    counted.clear()
    again = targets(store, teacher, data, masked(teacher, views=0, seed=1), np.arange(22))
    assert sum(counted) == 4 + 1, "what another student computed is read"
    model = predict.load(teacher, len(data.classes))
    for (batch, outputs), (_, others) in zip(first.added(batches(data, about, subset)),
                                             again.added(batches(data, about, subset)), strict=True):
        images = to_tensor(data.train.images[batch.numbers])
        answers = model(images).logits.argmax(dim=1)
        explainer = EXPLAINERS["sensitivity"]
        maps = explainer(model, images, answers).values
        maps = upsample(maps, maps.shape[-1], explainer.placement(model, explainer.stage_of(model), images.shape[-1]))
        torch.testing.assert_close(outputs[OUTPUT], maps / maps.amax(dim=(1, 2), keepdim=True), rtol=0.01, atol=0.01)
        assert torch.equal(outputs[OUTPUT], others[OUTPUT])
