"""Pixel attributions along paths from an empty image to the explained one: integrated gradients and GradientSHAP.

Values are signed, in units of the logit, and summed over the three colours, so a map sums to the difference between the
logits of the image and of the empty one. Own code, because captum draws from numpy's global generator, which all
threads share.
"""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kd.explainers.base import SEED, CountedModel, Explainer, ExplainerInfo, chunks, columns, like, mean_colour
from kd.models.base import Classifier
from kd.progress import ShareCallback


class PixelExplainer(Explainer):
    """Base of explainers whose maps are on the image's grid: the same at every stage, one image at a time."""

    @abstractmethod
    def attribute(self, ask: CountedModel, image: Tensor, targets: Tensor) -> Tensor:
        """Raw maps [T, S, S] of an image [3, S, S] for targets [T]."""

    @abstractmethod
    def passes(self, image: Tensor, targets: int) -> int:
        """Approximate number of images that the model processes for so many targets of one image [3, S, S]."""

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        wanted = columns(targets)
        ask = CountedModel(model, progress, max(1, sum(self.passes(image, wanted.shape[1]) for image in images)))
        # One by one: each image's map is then the same in any batch, and memory does not grow with the batch.
        maps = torch.stack([self.attribute(ask, image, row) for image, row in zip(images, wanted, strict=True)])
        return [like(targets, maps)] * len(stages)


class PathExplainer(PixelExplainer):
    """Base of explainers that average `(x − b) · ∂y/∂x` over points between baselines b and the image x."""

    points: int

    @abstractmethod
    def path(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(baselines [M, 3, S, S] or [1, 3, S, S], positions between them and the image in 0..1 [M], weights [M] that
        sum to 1)."""

    def passes(self, image: Tensor, targets: int) -> int:
        return self.points

    def attribute(self, ask: CountedModel, image: Tensor, targets: Tensor) -> Tensor:
        baselines, steps, weights = self.path(image)
        way = image - baselines
        total = torch.zeros(len(targets), *image.shape, device=image.device)
        for part in chunks(len(steps)):
            here = way if len(way) == 1 else way[part]
            start = baselines if len(way) == 1 else baselines[part]
            points = start + steps[part, None, None, None] * here
            for number, slopes in enumerate(_slopes(ask, points, targets)):
                total[number] += (weights[part, None, None, None] * here * slopes).sum(dim=0)
        return total.sum(dim=1)


def _slopes(ask: CountedModel, points: Tensor, targets: Tensor) -> list[Tensor]:
    """Gradient of each target's logit at each point: T × [M, 3, S, S]. No `.grad` is changed."""
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()
        scores = ask(leaf)[:, targets].sum(dim=0)
        return [torch.autograd.grad(score, leaf, retain_graph=number < len(scores) - 1)[0]
                for number, score in enumerate(scores)]


class IntegratedGradients(PathExplainer):
    """Integrated gradients: the gradient averaged on the straight path from a black image, times the image
    (Sundararajan 2017).

    A map sums to logit(image) − logit(black), up to the error of 20 Gauss-Legendre points. Black pixels get 0.
    """

    info = ExplainerInfo(
        "Integrated gradients", "Sundararajan 2017, arXiv 1703.01365", True,
        "What each pixel adds to the target class's score (below 0: takes from it), against a black image.",
        "seconds", signed=True, grid="picture")
    points = 20

    def path(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nodes, weights = (torch.from_numpy(part).to(image) for part in np.polynomial.legendre.leggauss(self.points))
        return torch.zeros_like(image)[None], (nodes + 1) / 2, weights / 2


class GradientShap(PathExplainer):
    """Expected gradients (Erion 2021), which approximate Shapley values: random points on the paths from two empty
    images, black and the image's mean colour.

    A map sums, on average over seeds, to logit(image) − the mean of logit(empty images). The seed is fixed.
    """

    info = ExplainerInfo(
        "GradientSHAP", "Lundberg & Lee 2017, arXiv 1705.07874; Erion 2021, arXiv 1906.10670", True,
        "What each pixel adds to the target class's score (below 0: takes from it), against blank images.",
        "seconds", signed=True, grid="picture")

    def __init__(self, points: int = 20, seed: int = SEED) -> None:
        self.points, self.seed = points, seed

    def path(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        draw = torch.Generator().manual_seed(self.seed)
        steps = torch.rand(self.points, generator=draw).to(image)
        empty = empty_pictures(image)
        # Equally many of each baseline: less variance than choosing at random.
        return empty[torch.arange(self.points) % len(empty)], steps, torch.full_like(steps, 1 / self.points)


def empty_pictures(image: Tensor) -> Tensor:
    """Two baselines [2, 3, S, S]: black, and the image's mean colour."""
    return torch.stack([torch.zeros_like(image), mean_colour(image)])
