"""What a run's batches carry: teacher outputs of whole images, targets of the mask, and random masks over images."""

import numpy as np
import torch
from lightning_fabric import Fabric
from made_runs import made
from small import explainer_of, small_data, spec

from kd.store.runs import Store
from kd.training.batches import TrainBatches
from kd.training.epoch_source import epoch_source
from kd.training.teacher.cached_teacher import CachedTeacher
from kd.training.teacher.rows import build_method


def source_of(store, data, about, teacher=None):
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    subset = np.arange(len(data.train))
    batches = TrainBatches(data.train, subset, 8, 0, about.views, data.info.flip, about.augmentation)
    if teacher is not None:
        method = build_method(about, teacher.spec, len(data.classes))
        teacher = CachedTeacher(teacher, about, data, method, fabric)
    return epoch_source(store.create(about), store, data, batches, None, teacher, fabric, lambda *_, **__: None)


def test_a_run_on_labels_has_plain_batches_and_under_random_masks_half_of_each_is_covered():
    store = Store()
    data = small_data(store.paths)
    plain, covered = (source_of(store, data, spec(random_masks=share))(0) for share in (0.0, 0.5))
    torch.manual_seed(0)
    for (before, outputs), (after, others) in zip(plain, covered, strict=True):
        assert outputs == others == {}
        assert torch.equal(after.images[4:], before.images[4:])
        assert not torch.equal(after.images[:4], before.images[:4])


def test_random_masks_cover_the_students_images_and_not_its_teachers_nor_the_targets():
    store = Store()
    data = small_data(store.paths)
    teacher = made(store, spec(model="test_resnet"), data.classes)
    about = spec(method="medtex", teacher=teacher.id, **{**explainer_of("medtex"), "mask_target": "outlines"})
    masked = spec(**{**vars(about), "random_masks": 1.0})
    pairs = zip(*(source_of(store, data, one, teacher)(1) for one in (about, masked)), strict=True)
    for (before, outputs), (after, others) in pairs:
        assert set(outputs) == set(others) == {"logits", "mask_target"}
        assert all(torch.equal(outputs[name], others[name]) for name in outputs)
        assert not torch.equal(before.images, after.images)
