"""Random masks over a batch: any share, no place preferred, and an undisturbed rest."""

import numpy as np
import pytest
import torch

from kd.metrics.inpainting import blur
from kd.training.batches import Batch
from kd.training.random_masks import RandomMasks, random_masks


def batch(count: int = 8, size: int = 32) -> Batch:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.zeros(count), np.arange(count), np.zeros(count, np.int64))


@pytest.mark.parametrize(("share", "masked"), [(0.0, 0), (0.5, 4), (1.0, 8)])
def test_a_share_of_the_batch_is_masked_and_the_rest_is_as_it_was(share, masked):
    torch.manual_seed(0)
    given, mean = batch(), torch.full((3, 32, 32), 2.0)
    [(found, outputs)] = RandomMasks(share, mean).over(iter([(given, {"logits": torch.ones(1)})]))
    assert torch.equal(found.images[masked:], given.images[masked:]) and list(outputs) == ["logits"]
    for image, seen, soft in zip(given.images[:masked], found.images, blur(given.images), strict=False):
        own, filled = (seen == image).all(dim=0), (seen == 2.0).all(dim=0) | torch.isclose(seen, soft).all(dim=0)
        assert (own | filled).all(), "every pixel is the image's or the fill's"


def test_both_fills_occur():
    torch.manual_seed(0)
    [(found, _)] = RandomMasks(1.0, torch.full((3, 32, 32), 2.0)).over(iter([(batch(64), {})]))
    with_mean = (found.images == 2.0).flatten(1).any(dim=1)
    assert 16 < with_mean.sum() < 48


@pytest.mark.parametrize("size", [28, 33])
def test_random_masks_show_any_share_and_prefer_no_place(size):
    torch.manual_seed(0)
    masks = random_masks(1000, torch.zeros(1, 3, size, size))
    assert masks.shape == (1000, size, size)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    shares = masks.mean(dim=(1, 2)).sort().values
    assert (shares - torch.linspace(0, 1, 1000)).abs().max() < 0.05  # as even as 1,000 draws are
    paths = masks.mean(dim=0)
    assert (paths - 0.5).abs().max() < 0.08  # five standard errors
    corners = paths[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert corners == pytest.approx(paths[size // 4:-size // 4, size // 4:-size // 4].mean().item(), abs=0.05)


def test_random_masks_are_blobs():
    torch.manual_seed(0)
    masks = random_masks(50, torch.zeros(1, 3, 96, 96))
    assert masks.diff(dim=1).abs().mean() < 0.05  # of unrelated pixels a third would differ from the one below
