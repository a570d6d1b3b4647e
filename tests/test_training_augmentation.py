import numpy as np
import pytest
import torch

from kd.training import augmentation


@pytest.fixture
def images():
    return torch.rand(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def test_a_view_is_the_same_in_any_batch(images):
    index, view = np.arange(6), np.array([0, 3, 1, 7, 2, 5])
    together = augmentation.augment(images, index, view, flip=True)
    for i in range(6):
        alone = augmentation.augment(images[i:i + 1], index[i:i + 1], view[i:i + 1], flip=True)
        torch.testing.assert_close(alone[0], together[i])


def test_views_and_images_differ(images):
    same = images[:1].expand(4, -1, -1, -1)
    of_one = augmentation.augment(same, np.zeros(4, np.int64), np.arange(4), flip=False)
    of_many = augmentation.augment(same, np.arange(4), np.zeros(4, np.int64), flip=False)
    for batch in (of_one, of_many):
        assert all(not torch.allclose(batch[0], batch[i]) for i in range(1, 4))


def test_values_stay_in_range_and_black_stays_black(images):
    out = augmentation.augment(images, np.arange(6), np.arange(6), flip=True)
    assert out.min() >= 0
    assert out.max() <= 1
    assert augmentation.augment(torch.zeros(1, 3, 40, 40), np.zeros(1, np.int64), np.ones(1, np.int64), True).max() == 0


def test_flips_only_where_allowed():
    """A picture bright on its left half stays so in every view unless flips are allowed."""
    picture = torch.zeros(1, 3, 40, 40)
    picture[..., :20] = 1
    index, view = np.zeros(60, np.int64), np.arange(60)
    batch = picture.expand(60, -1, -1, -1)

    def left_is_brighter(flip):
        out = augmentation.augment(batch, index, view, flip).mean(dim=(1, 2))
        return (out[:, :20].mean(1) > out[:, 20:].mean(1)).float().mean().item()

    assert left_is_brighter(False) == 1
    assert 0.25 < left_is_brighter(True) < 0.75


def test_crops_keep_at_least_half_of_the_picture():
    """Without rotation's empty corners, a bright picture stays bright: the crop lies inside."""
    out = augmentation.augment(torch.ones(50, 3, 40, 40), np.arange(50), np.arange(50), True)
    assert out[:, :, 10:30, 10:30].min() > 0.7


def test_every_image_cycles_through_all_its_views():
    index = np.arange(20)
    seen = np.stack([augmentation.view_number(epoch, index, 5) for epoch in range(5)])
    assert (np.sort(seen, axis=0) == np.arange(5)[:, None]).all()
    assert len(set(seen[0])) > 1


def test_strength_zero_is_the_picture_or_its_mirror_image(images):
    out = augmentation.augment(images, np.arange(6), np.arange(6), flip=True, strength=0)
    for before, after in zip(images, out, strict=True):
        assert torch.allclose(after, before, atol=1e-5) or torch.allclose(after, before.flip(-1), atol=1e-5)


def test_less_strength_stays_nearer():
    smooth = torch.nn.functional.interpolate(
        torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(1)), 40, mode="bilinear")

    def distance(strength):
        return (
            (augmentation.augment(smooth, np.arange(20), np.arange(20), False, strength) - smooth).abs().mean().item()
        )

    assert distance(0.2) < distance(0.5) < distance(1.0)


def test_where_pixels_are_looked_up_is_the_affine_grid():
    right, down, shift = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(2))
    matrix = torch.stack([right, down, shift]).permute(2, 1, 0)
    expected = torch.nn.functional.affine_grid(matrix, [5, 3, 24, 24], align_corners=False)
    torch.testing.assert_close(augmentation._grid(right, down, shift, 24), expected, rtol=1e-5, atol=1e-6)
