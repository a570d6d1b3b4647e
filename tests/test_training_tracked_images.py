"""The probe pictures, looked at during training."""

import numpy as np
import pytest
import torch
from small import SIZE, spec

from kd.datasets import open_dataset
from kd.datasets.tensors import to_tensor
from kd.models import build
from kd.store import probe_images
from kd.store.runs import Store
from kd.training import tracked_images

CPU = torch.device("cpu")


@pytest.fixture
def store():
    return Store()


def watched(store, **changes):
    run = store.create(spec(**changes))
    data = open_dataset(run.spec.data, SIZE, store.paths)
    model = build(run.spec, len(data.classes)).eval()
    images = tracked_images.start_tracking(run, model, data.val, CPU)
    seen = []
    model.register_forward_hook(lambda *_: seen.append(1))
    tracked_images.record_maps(run, 0, model, images, CPU)
    assert len(seen) == 1, "one look at the model gives stages and mask"
    return run, model, images


def test_an_ordinary_student_shows_its_stages(store):
    run, model, images = watched(store)
    assert np.array_equal(probe_images.load_images(run)[0], images)
    assert [len(maps) for maps in probe_images.latest_maps(run)[1]] == [len(images)] * len(model.stages)
    assert probe_images.load_masks(run) is None
    assert probe_images.load_fill(run) is None


@pytest.mark.parametrize("fill", ["mean", "blur"])
def test_of_an_explained_student_mask_and_fill_give_what_it_sees(store, fill):
    run, model, images = watched(store, mask_net_depth=1, mask_net_width=4, mask_fill=fill)
    masks, behind = probe_images.load_masks(run), probe_images.load_fill(run)
    assert masks.shape == images.shape[:3]
    assert len(probe_images.latest_maps(run)[1]) == len(model.stages)
    with torch.no_grad():
        pictures = to_tensor(images)
        seen = model.apply_mask(pictures, model.predict_mask(pictures)).permute(0, 2, 3, 1).numpy() * 255
    left = np.stack([probe_images.masked_images(*one) for one in zip(images, behind, masks, strict=True)])
    assert np.abs(left - seen).max() < 2
