"""Asking a model about many altered pictures: in chunks, so that memory is bounded, and with word of how far it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kd.explainers.base import Progress
from kd.models.base import Classifier

CHUNK = 16  # pictures at a time: more are not faster on a CPU, and a DenseNet's maps of 16 take a quarter of a GiB
SEED = 0


@dataclass
class Asker:
    """A model as a function from pictures [B, 3, S, S] in 0..1 to logits [B, K], which tells what share of `total`
    pictures it has been asked about."""

    model: Classifier
    progress: Progress
    total: int
    done: int = field(default=0, init=False)

    def __call__(self, pictures: Tensor) -> Tensor:
        logits = self.model(pictures).logits
        self.tell(len(pictures))
        return logits

    def tell(self, count: int) -> None:
        """`count` more pictures have been asked about. Raises what `progress` raises."""
        self.done += count
        self.progress(min(1.0, self.done / self.total))


def chunks(count: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices of at most `size` that cover range(count)."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def columns(targets: Tensor) -> Tensor:
    """Targets [N] or [N, T] as [N, T]."""
    return targets if targets.ndim == 2 else targets[:, None]


def like(targets: Tensor, maps: Tensor) -> Tensor:
    """Maps [N, T, H, W] in the shape that targets [N] or [N, T] ask for."""
    return maps if targets.ndim == 2 else maps[:, 0]


def mean_colour(image: Tensor) -> Tensor:
    """A picture [3, S, S] with nothing on it: its own mean colour, which is never foreign to it."""
    return image.mean(dim=(1, 2), keepdim=True).expand_as(image)


def without_noise(maps: Tensor, logits: Tensor) -> Tensor:
    """Maps [..., H, W] of differences of logits; zeros where all of them are what rounding makes of nothing."""
    # float32 logits of the same picture in two batches differ by a few units in the last place.
    least = 1e-6 * logits.abs().amax().clamp_min(1e-30)
    return torch.where(maps.abs().amax(dim=(-2, -1), keepdim=True) > least, maps, 0.0)
