"""Training batches as tensors, read from a split's memory map without worker processes or decoding."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets.base import UNLABELLED, Split
from kd.datasets.tensors import on_device, read_images, to_tensor
from kd.timing import Stopwatch
from kd.training import augmentation

# At least this share of a batch is labelled, where there are unlabelled images: as one in eight of Sohn 2020 (arXiv
# 2001.07685). The hard loss is a mean over the labelled images of a batch; of one or two it would be mostly noise, and
# a batch without any would pull the student to its teacher's errors alone.
LABELLED_SHARE = 1 / 8
NO_IMAGES = np.zeros(0, np.int64)
Mixed = tuple[NDArray[np.int64], NDArray[np.float32]]
Shown = Sequence[tuple[NDArray[np.int64], int]]
"""Images that a run shows, as (indices, number of passes over them) of each kind."""


class BatchPlan(NamedTuple):
    """Make-up of an epoch: labelled and unlabelled images of a batch, and steps."""

    labelled: int
    unlabelled: int
    steps: int


def batch_plan(labelled: float, unlabelled: float, batch_size: int, world: int = 1) -> BatchPlan:
    """Make-up of an epoch over these numbers of images, for `world` processes with equal shares of each batch.

    An epoch has as many steps as that of the control, a pass over the labelled images: so both are trained equally
    long, and with the same schedule. Unlabelled images take places of labelled ones, in proportion to their numbers.
    """
    size = int(min(batch_size, labelled + unlabelled)) // world * world
    if not unlabelled:
        return BatchPlan(size, 0, int(labelled // max(size, 1)))
    wanted = max(labelled / (labelled + unlabelled), LABELLED_SHARE) * size / world
    own = min(max(1, round(wanted)), size // world - 1) * world
    return BatchPlan(own, size - own, max(1, int(labelled // size)))


def shown_images(labelled: NDArray[np.int64], unlabelled: NDArray[np.int64], plan: BatchPlan, epochs: int) -> Shown:
    """The images that so many epochs show."""
    if not len(unlabelled):
        return ((labelled, epochs),)
    return tuple((index, math.ceil(epochs * plan.steps * share / len(index)))
                 for index, share in ((labelled, plan.labelled), (unlabelled, plan.unlabelled)))


@dataclass
class Batch:
    """Images with their labels.

    pixels: RGB [B, 3, S, S] in 0..1, or what makes them when they are first needed. target: labels [B], −1 for an
    image without one, or shares of the classes [B, K] of mixed images or smoothed labels, 0 for an image without.
    numbers: indices into the split [B]. view: number of each image's view [B], 0 where the plain images are trained on.
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

    mixup: strength with which views are mixed, labelled ones with labelled ones and others with others; 0 for none.
    smoothing: share of each label that goes to all classes alike.
    clock: seconds of reading and augmenting images, and of steps.
    unlabelled: indices of images without labels. Each batch then has its share of either kind (`batch_plan`), and both
    kinds go through pass after pass of their own, which an epoch does not end; the view depends on (image, pass).
    """

    def __init__(self, split: Split, subset: NDArray[np.int64], batch_size: int, seed: int, view_count: int,
                 flip: bool, strength: float = 1.0, rank: int = 0, world: int = 1,
                 unlabelled: NDArray[np.int64] = NO_IMAGES, mixup: float = 0.0, smoothing: float = 0.0) -> None:
        self.mixup, self.smoothing, self.classes = mixup, smoothing, int(split.labels.max(initial=0)) + 1
        self.split, self.labelled, self.unlabelled, self.seed = split, subset, unlabelled, seed
        self.view_count, self.flip, self.strength = view_count, flip, strength
        self.rank, self.world, self.clock = rank, world, Stopwatch()
        self._has_label = np.ones(len(split), np.bool_)
        self._has_label[unlabelled] = False
        self.plan = batch_plan(len(subset), len(unlabelled), batch_size, world)
        self.batch_size = self.plan.labelled + self.plan.unlabelled
        if min(self.plan.labelled, self.batch_size) < world:
            raise ValueError(f"{len(subset)} images cannot be shared among {world} processes")

    def __len__(self) -> int:
        """Steps per epoch. The remainder is left out: it differs each epoch, and batch norm needs full batches."""
        return self.plan.steps

    @property
    def subset(self) -> NDArray[np.int64]:
        """Indices of all images, labelled and unlabelled."""
        return np.concatenate([self.labelled, self.unlabelled])

    def shown(self, epochs: int) -> Shown:
        """The images that so many epochs show."""
        return shown_images(self.labelled, self.unlabelled, self.plan, epochs)

    def epoch(self, number: int, device: torch.device) -> Iterator[Batch]:
        """The batches of one epoch, on `device`."""
        order, turn = self._order(number)
        for step in range(len(self)):
            part = slice(step * self.batch_size + self.rank, (step + 1) * self.batch_size, self.world)
            yield self._batch(order[part], turn[part], device)

    def ahead(self, number: int, count: int, device: torch.device) -> "Ahead":
        """The images that an epoch shows this process, and those that it leaves out, by so many, on `device`."""
        order, turn = (part[self.rank::self.world] for part in self._order(number))
        return Ahead(lambda part: self._batch(order[part], turn[part], device), len(order), count)

    def rest(self, number: int, device: torch.device) -> Batch | None:
        """Images that an epoch leaves out, as one batch, or None. With unlabelled images none is left out for good."""
        order, turn = self._order(number)
        part = slice(len(self) * self.batch_size + self.rank, None, self.world)
        return self._batch(order[part], turn[part], device) if len(order[part]) else None

    def _order(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of an epoch's images, batch after batch, and the number of the pass that each is of."""
        if not len(self.unlabelled):
            order = np.random.default_rng((self.seed, number)).permutation(self.labelled)
            return order, np.full(len(order), number)
        kinds = [self._passes(kind, index, share, number) for kind, (index, share) in enumerate(
            ((self.labelled, self.plan.labelled), (self.unlabelled, self.plan.unlabelled)))]
        order, turn = (np.concatenate(parts, axis=1).ravel() for parts in zip(*kinds, strict=True))
        return order, turn

    def _passes(self, kind: int, index: NDArray[np.int64], share: int,
                number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of one kind in an epoch [steps, share], and the numbers of their passes."""
        place = np.arange(len(self) * share) + number * len(self) * share
        turn, order = place // len(index), np.empty_like(place)
        for one in np.unique(turn).tolist():
            whole = np.random.default_rng((self.seed, one, kind)).permutation(index)
            order[turn == one] = whole[place[turn == one] % len(index)]
        return order.reshape(-1, share), turn.reshape(-1, share)

    def _batch(self, index: NDArray[np.int64], turn: NDArray[np.int64], device: torch.device) -> Batch:
        view = np.zeros(len(index), np.int64)
        if self.view_count:
            view = augmentation.view_number(turn, index, self.view_count)
        mixed = self._mixed(index, view) if self.mixup else None
        return Batch(partial(self._timed_images, index, view, mixed, device),
                     on_device(self._target(index, mixed), device), index, view)

    def _mixed(self, index: NDArray[np.int64], view: NDArray[np.int64]) -> Mixed:
        """The images that views are mixed with [B], and the shares of their own [B]."""
        among, share = np.empty_like(index), np.empty(len(index), np.float32)
        for kind, labelled in ((self.labelled, True), (self.unlabelled, False)):
            own = self._has_label[index] == labelled
            if own.any():
                among[own], share[own] = augmentation.mixup(index[own], view[own], kind, self.mixup)
        return among, share

    def _target(self, index: NDArray[np.int64], mixed: Mixed | None) -> NDArray[Any]:
        labels = np.where(self._has_label[index], self.split.labels[index], UNLABELLED)
        if mixed is None and not self.smoothing:
            return labels
        partner, share = mixed or (index, np.ones(len(index), np.float32))
        known = self._has_label[index]
        target = np.zeros((len(index), self.classes), np.float32)
        np.add.at(target, (np.flatnonzero(known), labels[known]), share[known])
        np.add.at(target, (np.flatnonzero(known), self.split.labels[partner[known]]), 1 - share[known])
        target[known] += self.smoothing * (1 / self.classes - target[known])
        return target

    def _timed_images(self, *about: Any) -> Tensor:
        with self.clock("images"):
            return self._images(*about)

    def _images(self, index: NDArray[np.int64], view: NDArray[np.int64], mixed: Mixed | None,
                device: torch.device) -> Tensor:
        images = to_tensor(read_images(self.split.images, index), device)
        if not self.view_count:
            return images
        seen = augmentation.augment(images, index, view, self.flip, self.strength)
        if mixed:
            partner, share = mixed
            others = to_tensor(read_images(self.split.images, partner), device)
            others = augmentation.augment(others, partner, view, self.flip, self.strength)
            seen = torch.lerp(others, seen, on_device(share, device)[:, None, None, None])
        return seen.contiguous(memory_format=torch.channels_last)


class Ahead:
    """Images of an epoch beyond those that were shown already, as batches of `count`.

    batch: makes one of the images in these places. total: number of places. shown: places that are behind.
    """

    def __init__(self, batch: Callable[[slice], Batch], total: int, count: int) -> None:
        self.batch, self.total, self.count = batch, total, count
        self.shown = self._place = 0

    def __iter__(self) -> Iterator[Batch]:
        while (start := max(self.shown, self._place)) < self.total:
            self._place = start + self.count
            yield self.batch(slice(start, self._place))
