"""From a split's memory map to batches of tensors: no worker processes, no decoding."""

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd import views
from kd.datasets.base import Split

AT_ONCE = 256  # pictures in memory while all are looked through


class Batch(NamedTuple):
    """images: RGB [B, 3, S, S] in 0..1. target: labels [B]. numbers, view: which images of the split, and which
    numbered view of each it is [B]; the view is 0 where the plain images are trained on."""

    images: Tensor
    target: Tensor
    numbers: NDArray[np.int64]
    view: NDArray[np.int64]


class TrainBatches:
    """The training images of one run, epoch by epoch.

    subset: indices into the split. The order depends on (seed, epoch) alone and the view on (image, epoch) alone, so
    an epoch can be repeated after a kill. With several processes each takes its share of the same global batch.
    """

    def __init__(self, split: Split, subset: NDArray[np.int64], batch_size: int, seed: int, view_count: int,
                 flip: bool, strength: float = 1.0, rank: int = 0, world: int = 1) -> None:
        self.split, self.subset, self.seed = split, subset, seed
        self.view_count, self.flip, self.strength = view_count, flip, strength
        self.rank, self.world = rank, world
        self.batch_size = min(batch_size, len(subset)) // world * world
        if self.batch_size < world:
            raise ValueError(f"{len(subset)} images cannot be shared among {world} processes")

    def __len__(self) -> int:
        """Steps per epoch. The remainder is left out: it differs each epoch, and batch norm needs full batches."""
        return len(self.subset) // self.batch_size

    def epoch(self, number: int, device: torch.device) -> Iterator[Batch]:
        """The batches of one epoch, on `device`."""
        order = self._order(number)
        for step in range(len(self)):
            whole = order[step * self.batch_size:(step + 1) * self.batch_size]
            yield self._batch(whole[self.rank::self.world], number, device)

    def rest(self, number: int, device: torch.device) -> Batch | None:
        """What an epoch leaves out, or None."""
        left = self._order(number)[len(self) * self.batch_size:][self.rank::self.world]
        return self._batch(left, number, device) if len(left) else None

    def _order(self, number: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, number)).permutation(self.subset)

    def _batch(self, index: NDArray[np.int64], epoch: int, device: torch.device) -> Batch:
        images = to_tensor(pictures(self.split.images, index), device)
        view = np.zeros(len(index), np.int64)
        if self.view_count:
            view = views.view_number(epoch, index, self.view_count)
            images = views.augment(images, index, view, self.flip, self.strength).contiguous(
                memory_format=torch.channels_last)
        return Batch(images, views.on_device(self.split.labels[index], device), index, view)


def pictures(images: NDArray[np.uint8], index: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A copy of these pictures of a split [len(index), S, S, 3].

    Those of a memory map are read from its file: pages looked at through the map count as this process's memory, until
    the whole set does, and fetching them one by one takes longer than the read does.
    """
    whole: object = images.base
    if not (isinstance(images, np.memmap) and isinstance(whole, mmap) and images.filename):
        return np.array(images[index])
    found = np.empty((len(index), *images.shape[1:]), np.uint8)
    try:
        with open(images.filename, "rb", buffering=0) as file:
            for picture, number in zip(found, index.tolist(), strict=True):
                file.seek(images.offset + number * picture.nbytes)
                file.readinto(picture.data)
    except FileNotFoundError:  # a cache may be emptied under a run: the map still holds the pictures
        return np.array(images[index])
    return found


def average(split: Split, subset: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean picture [3, S, S] in 0..1 of these images of a split."""
    total = np.zeros(split.images.shape[1:], np.int64)
    for start in range(0, len(subset), AT_ONCE):
        total += pictures(split.images, subset[start:start + AT_ONCE]).sum(axis=0, dtype=np.int64)
    return (total / (255 * len(subset))).astype(np.float32).transpose(2, 0, 1).copy()


def to_tensor(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """uint8 [N, S, S, 3] to float RGB [N, 3, S, S] in 0..1, in channels_last memory as it comes."""
    writable = images if images.flags.writeable else images.copy()
    return views.on_device(writable, device).permute(0, 3, 1, 2).float().div_(255)
