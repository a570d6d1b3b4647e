import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from kd.metrics.inpainting import inpaint


def pictures(count=2, side=40, channels=3):
    drawn = np.random.default_rng(0).random((count, channels, side, side))
    return torch.from_numpy(gaussian_filter(drawn, (0, 0, 2, 2))).float()


def holes(share, count=2, side=40):
    drawn = gaussian_filter(np.random.default_rng(1).random((count, side, side)), (0, 3, 3))
    return torch.from_numpy(drawn > np.quantile(drawn, share, axis=(1, 2), keepdims=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the package asks numpy things that torch refuses soon
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_filled_in_as_pytorch_grad_cam_does_it(share):
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    images, keep = pictures(), holes(share)
    mine = inpaint(images, keep)
    for image, mask, filled in zip(images, keep, mine, strict=True):
        theirs = NoisyLinearImputer(noise=0)(image, mask.float())
        assert float((filled - theirs).abs().max()) < 4e-3  # a grey level; the noise that is added has 1e-2


def test_grey_pictures_are_solved_once_and_alike():
    grey = pictures(channels=1).expand(-1, 3, -1, -1)
    almost = grey.clone()
    almost[:, 2, 0, 0] += 1e-6
    assert float((inpaint(grey, holes(0.5)) - inpaint(almost, holes(0.5))).abs().max()) < 4e-3
    assert inpaint(grey, holes(0.5)).shape == grey.shape


def test_what_is_kept_stays_and_flat_stays_flat():
    images, keep = pictures(), holes(0.7)
    kept = keep[:, None].expand_as(images)
    assert torch.equal(inpaint(images, keep)[kept], images[kept])
    assert torch.allclose(inpaint(torch.full((2, 3, 40, 40), 0.3), keep), torch.tensor(0.3), atol=1e-3)
    assert torch.equal(inpaint(images, torch.ones_like(keep)), images)
    assert torch.isfinite(inpaint(images, torch.zeros_like(keep))).all()
