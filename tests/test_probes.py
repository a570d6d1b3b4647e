import numpy as np

from kd import probes
from kd.datasets.base import Split
from kd.runs import Store
from kd.spec import RunSpec


def test_one_image_per_class_and_the_newest_maps():
    run = Store().create(RunSpec())
    assert probes.images(run) is None
    assert probes.latest(run) is None
    images = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    split = Split(images, np.array([2, 0, 2, 1, 0]), tuple("abcde"))
    chosen = probes.store_images(run, split)
    stored, labels = probes.images(run)
    assert labels.tolist() == [0, 1, 2]
    assert np.array_equal(stored, images[[1, 3, 0]])
    assert np.array_equal(chosen, stored)
    for epoch in (0, 1):
        probes.store_maps(run, epoch, [np.full((3, 2, 2), epoch, np.float32), np.zeros((3, 1, 1), np.float32)])
    epoch, maps = probes.latest(run)
    assert epoch == 1
    assert [stage.shape for stage in maps] == [(3, 2, 2), (3, 1, 1)]
    assert (maps[0] == 1).all()
