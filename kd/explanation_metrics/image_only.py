"""Baseline maps of an image that no model has seen: bright and dark places, anywhere or near the middle."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.tensors import to_tensor
from kd.metrics.bootstrap import centre_gaussian
from kd.torch_utils.smoothing import gaussian_blur

BLUR = 0.04  # standard deviation, as a share of the side: that of the sensitivity map
BATCH = 64
BRIGHT, BRIGHT_CENTRE, DARK, DARK_CENTRE = IMAGE_ONLY = (
    "brightness", "brightness-centre", "darkness", "darkness-centre")

Heat = NDArray[np.float32]


def image_only_maps(images: NDArray[np.uint8]) -> dict[str, Heat]:
    """Maps [N, S, S] in 0..1 of images [N, S, S, 3], by name: the blurred brightness, one minus it, and either times a
    centred Gaussian. A map that points at the evidence no better than these needs no network."""
    bright = np.concatenate([np.empty((0, *images.shape[1:3]), np.float32), *_brightness(images)])
    middle = centre_gaussian(*images.shape[1:3])
    return {name: make(bright, middle) for name, make in _MAPS.items()}


_MAPS: dict[str, Callable[[Heat, Heat], Heat]] = {
    BRIGHT: lambda bright, _: bright, BRIGHT_CENTRE: lambda bright, middle: bright * middle,
    DARK: lambda bright, _: 1 - bright, DARK_CENTRE: lambda bright, middle: (1 - bright) * middle}


def _brightness(images: NDArray[np.uint8]) -> Iterator[Heat]:
    for start in range(0, len(images), BATCH):
        batch = to_tensor(images[start:start + BATCH], torch.device("cpu"))
        yield gaussian_blur(batch.mean(dim=1), BLUR).clamp(0, 1).numpy()
