"""Inpainting of pixels: ROAD's linear imputation and a Gaussian blur, in torch.

Every missing pixel becomes the weighted mean of its eight neighbours (Rong 2022, arXiv 2202.00449), which is one linear
system per image. It is symmetric and positive definite, so conjugate gradients solve many images at once; from a
coarse-to-fine initial guess they need few steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from kd.torch_utils.resize import upsample

STEPS = 200
REST = 5e-5  # largest residual of the system, of full brightness: the solution is then exact to a grey level
COARSEST = 8


def inpaint(images: Tensor, keep: Tensor) -> Tensor:
    """Images [N, C, H, W] with the pixels where `keep` (bool [N, H, W]) is false imputed from the others.

    An image of which nothing is kept becomes black.
    """
    if images.shape[1] > 1 and bool((images == images[:, :1]).all()):  # grey images, as most scans are
        return inpaint(images[:, :1], keep).expand_as(images)
    images = images.contiguous()  # every step below goes row by row
    known = keep[:, None].to(images)
    missing = 1 - known
    weight = _neighbours(torch.ones_like(known))

    def system(values: Tensor) -> Tensor:
        return (weight * values - _neighbours(values)) * missing

    start = _guess(images, known) * missing
    return images * known + _solve(system, _neighbours(images * known) * missing, start)


def _guess(images: Tensor, known: Tensor) -> Tensor:
    """Initial guess: the images imputed at half the size and upsampled, which lack only fine structure near the rim."""
    height, width = known.shape[-2:]
    if min(height, width) <= COARSEST:
        return torch.zeros_like(images)
    share = F.avg_pool2d(known, 2, ceil_mode=True)
    means = F.avg_pool2d(images * known, 2, ceil_mode=True) / share.clamp_min(1e-6)
    coarse = inpaint(means, share[:, 0] > 0)
    return upsample(coarse, (height, width))


def _solve(system: Callable[[Tensor], Tensor], wanted: Tensor, values: Tensor) -> Tensor:
    """Conjugate gradients (Hestenes 1952), each image with its own step lengths."""
    rest = wanted - system(values)
    way, power = rest, _dot(rest, rest)
    for _ in range(STEPS):
        if float(rest.abs().amax()) < REST:
            break
        pushed = system(way)
        step = power / _dot(way, pushed).clamp_min(1e-20)
        values, rest = values + step * way, rest - step * pushed
        power, before = _dot(rest, rest), power
        way = rest + power / before.clamp_min(1e-20) * way
    return values


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=(1, 2, 3), keepdim=True)


def _neighbours(values: Tensor) -> Tensor:
    """Weighted sum of the eight neighbours: 1/6 for direct and 1/12 for diagonal ones; 0 outside the image."""
    padded = F.pad(values, (1, 1, 1, 1))
    rows = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:] - 4 * values) / 12


def blur(images: Tensor) -> Tensor:
    """Gaussian blur of images [N, C, S, S], standard deviation a sixteenth of the side: organs remain visible, lesions
    do not."""
    side = images.shape[-1]
    reach = side // 8
    away = torch.arange(-reach, reach + 1).to(images) / (side / 16)
    weight, channels = (-away.square() / 2).exp(), images.shape[1]
    weight = (weight / weight.sum()).expand(channels, 1, 1, -1)
    wide = F.pad(images, (reach,) * 4, mode="reflect")
    # Depthwise: the same sums as channel by channel, in less than half the time.
    return F.conv2d(F.conv2d(wide, weight, groups=channels), weight.mT, groups=channels)
