import pytest
import torch
from small_models import pictures

from kd.explainers.perturbation import superpixels


def soft(side=64):
    return torch.nn.functional.interpolate(pictures(1, side=8), (side, side), mode="bicubic").clamp(0, 1)[0]


@pytest.mark.parametrize("image", [soft(), pictures(1, side=64)[0], torch.zeros(3, 64, 64), torch.ones(3, 30, 30)])
def test_every_pixel_is_in_one_of_about_49_patches_numbered_without_gaps(image):
    patches = superpixels(image)
    assert patches.shape == image.shape[1:] and patches.dtype == torch.int64
    count = int(patches.max()) + 1
    assert 12 <= count <= 64
    assert patches.unique().tolist() == list(range(count))


def test_noise_and_emptiness_fall_back_to_a_grid_of_seven():
    for image in (torch.zeros(3, 70, 70), torch.full((3, 70, 70), 0.4)):
        patches = superpixels(image)
        assert patches.max() == 48
        assert (patches[:10, :10] == 0).all() and (patches[60:, 60:] == 48).all()
    assert superpixels(torch.zeros(3, 3, 3)).unique().tolist() == list(range(9))


def test_they_follow_edges_and_are_always_the_same():
    image = soft()
    image[:, :, 37:] = 1 - image[:, :, 37:].round()
    patches = superpixels(image)
    assert torch.equal(patches, superpixels(image))
    left, right = (set(part.unique().tolist()) for part in (patches[:, :37], patches[:, 37:]))
    assert len(left & right) < 0.3 * len(left | right), "few patches lie on both sides of the edge"
