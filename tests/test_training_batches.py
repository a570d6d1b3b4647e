from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kd.datasets.base import Split
from kd.evaluation import predict
from kd.methods.base import hard_loss
from kd.observation import Observation
from kd.training.augmentation import mixup, view_number
from kd.training.batches import TrainBatches, batch_plan

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


@pytest.mark.parametrize("world", [1, 2])
def test_what_is_ahead_is_the_rest_of_an_epoch_and_what_it_leaves_out(split, world):
    for rank in range(world):
        batches = TrainBatches(split, np.arange(20), 6, 0, 4, True, rank=rank, world=world)
        shown = [*batches.epoch(2, CPU), batches.rest(2, CPU)]
        ahead = batches.ahead(2, 4, CPU)
        first = next(iter(ahead))
        ahead.shown = len(shown[0].numbers) + len(shown[1].numbers)
        later = list(ahead)
        assert max(len(batch.numbers) for batch in later) <= 4
        assert list(ahead) == [], "nothing twice"
        for part in ("numbers", "view", "images"):
            every, found = (np.concatenate([np.asarray(getattr(batch, part)) for batch in some])
                            for some in (shown, [first, *later]))
            np.testing.assert_array_equal(found, np.concatenate([every[:4], every[ahead.shown:]]))


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
    def forward(self, images, stages=False):
        return Observation(images.mean(dim=(2, 3)), ())


def resident():
    """Megabytes of files in this process's memory."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux's /proc")
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("RssFile"))


LABELLED, UNLABELLED = np.array([0, 4, 8, 12]), np.setdiff1d(np.arange(20), [0, 4, 8, 12])


def both_kinds(split, size=10, seed=0, views=0, **shares):
    return TrainBatches(split, LABELLED, size, seed, views, True, unlabelled=UNLABELLED, **shares)


def test_every_batch_has_its_share_of_labelled_images(split):
    batches = both_kinds(split)
    assert len(batches) == 1  # as the control's, which sees 4 images an epoch in a batch of 4
    assert batches.subset.tolist() == [*LABELLED, *UNLABELLED]
    for epoch in range(8):
        [batch] = batches.epoch(epoch, CPU)
        assert np.isin(batch.numbers, LABELLED).tolist() == [True] * 2 + [False] * 8
        assert batch.target.tolist() == [*split.labels[batch.numbers[:2]], *[-1] * 8]
    assert batches.rest(0, CPU) is None


@pytest.mark.parametrize(("labelled", "unlabelled", "size", "world", "expected"), [
    (100, 900, 64, 1, (8, 56, 1)),  # a tenth would be 6: an eighth at least
    (500, 500, 64, 1, (32, 32, 7)), (640, 64, 64, 1, (58, 6, 10)), (640, 1, 64, 1, (63, 1, 10)),
    (3, 2, 64, 1, (3, 2, 1)), (100, 900, 2, 1, (1, 1, 50)), (100, 900, 64, 4, (8, 56, 1)),
    (640, 0, 64, 1, (64, 0, 10)), (20, 0, 64, 1, (20, 0, 1))])
def test_a_batch_is_made_up_in_proportion_with_an_eighth_labelled_at_least(labelled, unlabelled, size, world, expected):
    assert batch_plan(labelled, unlabelled, size, world) == expected


def test_both_kinds_go_through_pass_after_pass(split):
    batches = both_kinds(split, views=50)
    order = np.concatenate([batch.numbers for epoch in range(4) for batch in batches.epoch(epoch, CPU)])
    view = np.concatenate([batch.view for epoch in range(4) for batch in batches.epoch(epoch, CPU)])
    for kind, passes in ((LABELLED, 2), (UNLABELLED, 2)):
        shown, views = order[np.isin(order, kind)], view[np.isin(order, kind)]
        for one in range(passes):
            part = slice(one * len(kind), (one + 1) * len(kind))
            assert sorted(shown[part]) == sorted(kind)
            assert np.array_equal(views[part], view_number(one, shown[part], 50))
    assert {tuple(index): passes for index, passes in batches.shown(4)} == {tuple(LABELLED): 2, tuple(UNLABELLED): 2}
    again = both_kinds(split, views=50)
    assert all(np.array_equal(one.numbers, other.numbers) for one, other in zip(batches.epoch(3, CPU),
                                                                              again.epoch(3, CPU), strict=True))


def test_processes_have_equally_many_labelled_images(split):
    whole = next(both_kinds(split).epoch(0, CPU)).numbers
    parts = [next(both_kinds(split, rank=rank, world=2).epoch(0, CPU)).numbers for rank in (0, 1)]
    assert sorted(np.concatenate(parts)) == sorted(whole)
    assert [np.isin(part, LABELLED).sum() for part in parts] == [1, 1]


def mixing(split, seed=0):
    return TrainBatches(split, LABELLED, 10, seed, 5, True, 0.0, unlabelled=UNLABELLED, mixup=1.0)


def test_mixed_images_are_two_of_their_kind_in_the_shares_of_their_labels(split):
    [batch] = mixing(split).epoch(0, CPU)
    pixels = batch.images.mean(dim=(1, 2, 3)) * 255
    assert (batch.target[2:] == 0).all()
    assert torch.allclose(batch.target[:2].sum(dim=1), torch.ones(2))
    for place, among in enumerate([LABELLED] * 2 + [UNLABELLED] * 8):
        one = slice(place, place + 1)
        [other], [share] = mixup(batch.numbers[one], batch.view[one], among, 1.0)
        assert other in among
        assert pixels[place].item() == pytest.approx(share * batch.numbers[place] + (1 - share) * other, abs=1e-3)


def test_a_view_is_mixed_the_same_in_every_seed(split):
    def seen(seed):
        return {(int(number), int(view)): image for epoch in range(6) for batch in mixing(split, seed=seed).epoch(epoch,
                CPU) for number, view, image in zip(batch.numbers, batch.view, batch.images, strict=True)}

    first, second = seen(0), seen(1)
    both = set(first) & set(second)
    assert len(both) > 20
    assert all(torch.equal(first[key], second[key]) for key in both)


def test_smoothed_labels_leave_a_share_to_all_classes_and_none_to_images_without(split):
    [sharp] = TrainBatches(split, LABELLED, 10, 0, 0, True, unlabelled=UNLABELLED).epoch(0, CPU)
    [batch] = TrainBatches(split, LABELLED, 10, 0, 0, True, unlabelled=UNLABELLED, smoothing=0.3).epoch(0, CPU)
    count = int(split.labels.max()) + 1
    for label, shares in zip(sharp.target.tolist(), batch.target, strict=True):
        wanted = [0.0 if label < 0 else 0.3 / count + 0.7 * (one == label) for one in range(count)]
        assert shares.tolist() == pytest.approx(wanted)


def test_the_smoothed_loss_is_that_of_torch(split):
    sharp, smooth = (next(TrainBatches(split, np.arange(20), 10, 0, 0, True, smoothing=share).epoch(0, CPU))
                     for share in (0.0, 0.1))
    logits = torch.randn(len(sharp.target), int(split.labels.max()) + 1)
    assert hard_loss(logits, smooth.target).item() == pytest.approx(
        F.cross_entropy(logits, sharp.target, label_smoothing=0.1).item(), rel=1e-5)


def test_shares_are_those_of_a_beta_distribution():
    index = np.arange(4000)
    for strength, variance in ((1.0, 1 / 12), (0.2, 1 / (4 * 1.4))):
        partner, share = mixup(index, np.zeros_like(index), index, strength)
        assert share.mean() == pytest.approx(0.5, abs=0.03)
        assert share.var() == pytest.approx(variance, rel=0.06)
        assert len(set(partner)) > 2000
