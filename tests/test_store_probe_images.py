import numpy as np

from kd.datasets.base import Split
from kd.spec import RunSpec
from kd.store import probe_images
from kd.store.runs import Store


def test_one_image_per_class_and_the_newest_maps():
    run = Store().create(RunSpec())
    assert probe_images.load_images(run) is None
    assert probe_images.latest_maps(run) is None
    images = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    split = Split(images, np.array([2, 0, 2, 1, 0]), tuple("abcde"))
    chosen = probe_images.store_images(run, split.images, split.labels)
    stored, labels = probe_images.load_images(run)
    assert labels.tolist() == [0, 1, 2]
    assert np.array_equal(stored, images[[1, 3, 0]])
    assert np.array_equal(chosen, stored)
    for epoch in (0, 1):
        probe_images.store_maps(run, epoch, [np.full((3, 2, 2), epoch, np.float32), np.zeros((3, 1, 1), np.float32)])
    epoch, maps = probe_images.latest_maps(run)
    assert epoch == 1
    assert [stage.shape for stage in maps] == [(3, 2, 2), (3, 1, 1)]
    assert (maps[0] == 1).all()


def test_masks_are_kept_beside_the_stage_maps_and_read_by_epoch_and_by_picture():
    run = Store().create(RunSpec())
    assert probe_images.load_masks(run) is None
    assert probe_images.load_fill(run) is None
    assert probe_images.recorded_epochs(run) == probe_images.maps_over_epochs(run, 0) == []
    drawn = np.random.default_rng(0).random((6, 3, 4, 4)).astype(np.float32)
    for epoch, mask in enumerate(drawn):
        probe_images.store_maps(run, epoch, [np.full((3, 2, 2), epoch, np.float32)], mask)
    assert probe_images.recorded_epochs(run) == list(range(6))
    assert [stage.shape for stage in probe_images.latest_maps(run)[1]] == [(3, 2, 2)]
    half = drawn.astype(np.float16)
    assert np.array_equal(probe_images.load_masks(run), half[-1])
    assert np.array_equal(probe_images.load_masks(run, 2), half[2])
    assert probe_images.load_masks(run, 99) is None
    assert [epoch for epoch, _ in probe_images.maps_over_epochs(run, 1)] == list(range(6))
    assert all(np.array_equal(mask, half[epoch, 1]) for epoch, mask in probe_images.maps_over_epochs(run, 1))
    assert [epoch for epoch, _ in probe_images.maps_over_epochs(run, 1, most=3)] == [0, 2, 5]


def test_an_ordinary_student_has_no_masks():
    run = Store().create(RunSpec())
    probe_images.store_maps(run, 0, [np.ones((3, 2, 2), np.float32)])
    assert probe_images.load_masks(run) is None
    assert probe_images.maps_over_epochs(run, 0) == []


def test_a_mask_leaves_the_picture_where_it_is_one_and_the_fill_where_it_is_nought():
    image, fill = np.full((2, 2, 3), 200, np.uint8), np.full((2, 2, 3), 100, np.uint8)
    left = probe_images.masked_images(image, fill, np.array([[1, 0], [0.5, 0.25]], np.float16))
    assert left[..., 0].tolist() == [[200, 100], [150, 125]]
    assert left.dtype == np.uint8


def test_files_hold_their_masks_in_less_room_than_they_take():
    run = Store().create(RunSpec())
    probe_images.store_maps(run, 0, [], np.zeros((4, 64, 64), np.float32))
    assert (run.path / "probes" / "0000.npz").stat().st_size < 4 * 64**2 * 2 / 10
