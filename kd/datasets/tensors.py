"""Images of a split as tensors, and what is computed from their pixels alone."""

from mmap import mmap
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets.base import JoinedImages, Split

AT_ONCE = 256  # images in memory while all of a split are gone through


def read_images(images: NDArray[np.uint8] | JoinedImages, index: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A copy of these images of a split [len(index), S, S, 3].

    Those of a memory map are read from its file: pages touched through the map count as this process's memory, until
    the whole set does, and fetching them one by one takes longer than the read does.
    """
    if isinstance(images, JoinedImages):
        return images.read(index, read_images)
    whole: object = images.base
    if not (isinstance(images, np.memmap) and isinstance(whole, mmap) and images.filename):
        return np.array(images[index])
    found = np.empty((len(index), *images.shape[1:]), np.uint8)
    try:
        with open(images.filename, "rb", buffering=0) as file:
            for image, number in zip(found, index.tolist(), strict=True):
                file.seek(images.offset + number * image.nbytes)
                file.readinto(image.data)
    except FileNotFoundError:  # a cache may be emptied under a run: the map still holds the images
        return np.array(images[index])
    return found


def mean_image(split: Split, subset: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean [3, S, S] in 0..1 of these images of a split."""
    total = np.zeros(split.images.shape[1:], np.int64)
    for start in range(0, len(subset), AT_ONCE):
        total += read_images(split.images, subset[start:start + AT_ONCE]).sum(axis=0, dtype=np.int64)
    return (total / (255 * len(subset))).astype(np.float32).transpose(2, 0, 1).copy()


def to_tensor(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """uint8 [N, S, S, 3] as float RGB [N, 3, S, S] in 0..1, in channels_last memory as it comes."""
    writable = images if images.flags.writeable else images.copy()
    return on_device(writable, device).permute(0, 3, 1, 2).float().div_(255)


def on_device(values: NDArray[Any], device: torch.device | str) -> Tensor:
    """A writable array as a tensor there. Copies to a GPU go from pinned memory and do not block."""
    tensor = torch.from_numpy(values)
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
