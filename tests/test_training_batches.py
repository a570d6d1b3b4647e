from pathlib import Path

import numpy as np
import pytest
import torch

from kd.datasets.base import Split
from kd.evaluation import predict
from kd.observation import Observation
from kd.training.batches import TrainBatches

CPU = torch.device("cpu")


@pytest.fixture
def split():
    """Twenty pictures, each filled with its own number."""
    images = np.repeat(np.arange(20, dtype=np.uint8), 8 * 8 * 3).reshape(20, 8, 8, 3)
    return Split(images, np.arange(20) % 4, tuple(map(str, range(20))))


def seen(batches, epoch):
    return [(batch.images[:, 0, 0, 0] * 255).round().long().tolist() for batch in batches.epoch(epoch, CPU)]


def test_an_epoch_shows_each_image_at_most_once_with_its_label(split):
    batches = TrainBatches(split, np.arange(20), 6, seed=0, view_count=0, flip=True)
    shown = seen(batches, 0)
    assert [len(batch) for batch in shown] == [6, 6, 6]
    assert len(set(sum(shown, []))) == 18
    for batch in batches.epoch(0, CPU):
        images, target, numbers, view = batch.images, batch.target, batch.numbers, batch.view
        assert target.tolist() == [split.labels[number] for number in numbers]
        assert not view.any()
        assert ((images[:, 0, 0, 0] * 255).round().long() % 4).tolist() == target.tolist()


def test_order_depends_on_seed_and_epoch_alone(split):
    first = TrainBatches(split, np.arange(20), 5, 0, 0, True)
    assert seen(first, 3) == seen(TrainBatches(split, np.arange(20), 5, 0, 0, True), 3)
    assert seen(first, 3) != seen(first, 4)
    assert seen(first, 3) != seen(TrainBatches(split, np.arange(20), 5, 1, 0, True), 3)


def test_only_the_subset_is_shown(split):
    batches = TrainBatches(split, np.array([2, 3, 5, 7]), 2, 0, 0, True)
    assert set(sum(seen(batches, 0), [])) == {2, 3, 5, 7}


def test_fewer_images_than_a_batch_make_one_batch(split):
    assert seen(TrainBatches(split, np.arange(3), 64, 0, 0, True), 0)[0].__len__() == 3


def test_processes_share_the_same_global_batches(split):
    whole = seen(TrainBatches(split, np.arange(20), 6, 0, 0, True), 1)
    parts = [seen(TrainBatches(split, np.arange(20), 6, 0, 0, True, rank=rank, world=2), 1) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        assert sorted(parts[0][step] + parts[1][step]) == sorted(batch)
        assert len(parts[0][step]) == len(parts[1][step])


def test_more_processes_than_images_are_refused(split):
    with pytest.raises(ValueError, match="cannot be shared"):
        TrainBatches(split, np.arange(3), 8, 0, 0, True, rank=0, world=4)


def test_augmented_epochs_repeat_exactly(split):
    batches = TrainBatches(split, np.arange(20), 20, 0, 5, True)
    first, again = (next(iter(batches.epoch(2, CPU))).images for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, next(iter(TrainBatches(split, np.arange(20), 20, 0, 0, True).epoch(2, CPU))).images)


def test_reading_a_whole_set_leaves_resident_memory_flat(tmp_path):
    """Pages seen through a memory map would count as this process's own: 200 MB of them here."""
    shape = (17_000, 64, 64, 3)
    with (tmp_path / "train.images").open("wb") as file:
        file.truncate(int(np.prod(shape)))
    images = np.memmap(tmp_path / "train.images", np.uint8, "r", shape=shape)
    split = Split(images, np.zeros(shape[0], np.int64), ("",) * shape[0])
    before = resident()
    for batch in TrainBatches(split, np.arange(shape[0]), 500, 0, 0, True).epoch(0, CPU):
        assert not batch.images.any()
    predict.predict(Brightness(), split)
    assert resident() - before < 100
    assert images.max() == 0  # and so the measure is shown to see what it must
    assert resident() - before > 150


class Brightness(torch.nn.Module):
    def forward(self, images):
        return Observation(images.mean(dim=(2, 3)), ())


def resident():
    """Megabytes of files in this process's memory."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux's /proc")
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("RssFile"))
