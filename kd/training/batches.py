"""Training batches as tensors, read from a split's memory map without worker processes or decoding."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets.base import Split
from kd.datasets.tensors import on_device, read_images, to_tensor
from kd.training import augmentation


@dataclass
class Batch:
    """Images with their labels.

    pixels: RGB [B, 3, S, S] in 0..1, or what makes them when they are first needed. target: labels [B]. numbers:
    indices into the split [B]. view: number of each image's view [B], 0 where the plain images are trained on.
    features: of the student's frozen stages [B, C, H, W], where they are cached.
    """

    pixels: Tensor | Callable[[], Tensor]
    target: Tensor
    numbers: NDArray[np.int64]
    view: NDArray[np.int64]
    features: Tensor | None = None

    @property
    def images(self) -> Tensor:
        """RGB images [B, 3, S, S] in 0..1."""
        if not isinstance(self.pixels, Tensor):
            self.pixels = self.pixels()
        return self.pixels


class TrainBatches:
    """Training images of one run, epoch by epoch.

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
        """Images that an epoch leaves out, as one batch, or None."""
        left = self._order(number)[len(self) * self.batch_size:][self.rank::self.world]
        return self._batch(left, number, device) if len(left) else None

    def _order(self, number: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, number)).permutation(self.subset)

    def _batch(self, index: NDArray[np.int64], epoch: int, device: torch.device) -> Batch:
        view = np.zeros(len(index), np.int64)
        if self.view_count:
            view = augmentation.view_number(epoch, index, self.view_count)
        return Batch(partial(self._images, index, view, device), on_device(self.split.labels[index], device), index,
                     view)

    def _images(self, index: NDArray[np.int64], view: NDArray[np.int64], device: torch.device) -> Tensor:
        images = to_tensor(read_images(self.split.images, index), device)
        if not self.view_count:
            return images
        return augmentation.augment(images, index, view, self.flip, self.strength).contiguous(
            memory_format=torch.channels_last)
