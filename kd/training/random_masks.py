"""Training under random masks, so that a model keeps its decisions when only a part of an image is shown."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from kd.methods import TeacherOutputs
from kd.metrics.inpainting import blur
from kd.torch_utils.resize import upsample
from kd.training.batches import Batch

GRID = 8  # a random mask is smooth noise of so many units per side, cut where it shows a random share


class RandomMasks:
    """Random masks over a share of each batch.

    Half of the masked images are filled with the mean image, the others with the blurred image itself: either may be
    the fill of a masked student, whose images such a teacher is later shown. mean_image: [3, S, S] in 0..1.
    """

    def __init__(self, share: float, mean_image: Tensor) -> None:
        self.share, self.mean_image = share, mean_image

    def over(self, batches: Iterator[tuple[Batch, TeacherOutputs]]) -> Iterator[tuple[Batch, TeacherOutputs]]:
        """The batches, partly masked."""
        return ((replace(batch, pixels=self._masked(batch.images)), outputs) for batch, outputs in batches)

    def _masked(self, images: Tensor) -> Tensor:
        count = round(self.share * len(images))
        some = images[:count]  # batches are shuffled
        with_mean = torch.rand(count, 1, 1, 1, device=images.device) < 0.5
        fill = torch.where(with_mean, self.mean_image.to(images), blur(some))
        return torch.cat([torch.lerp(fill, some, random_masks(count, images)[:, None]), images[count:]]).contiguous(
            memory_format=torch.channels_last)


def random_masks(count: int, like: Tensor) -> Tensor:
    """Random masks [count, S, S] of 0 and 1 for images of this size: smooth blobs, each with a share of the image drawn
    uniformly from 0..1."""
    heat = upsample(torch.rand(count, GRID, GRID, device=like.device), like.shape[-1])
    share = torch.rand(count, 1, device=like.device)
    ranked = heat.flatten(1).sort(dim=1).values
    cut = ranked.gather(1, (share * ranked.shape[1]).long().clamp_max(ranked.shape[1] - 1))
    return (heat < cut[:, :, None]).to(like.dtype)
