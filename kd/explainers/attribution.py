"""What each pixel adds to a class's score, along a way from an empty picture to the one that is asked about.

Values are signed, in units of the logit, and summed over the three colours, so a map sums to what the picture as a
whole adds over the empty one. Own code where captum would draw from numpy's global generator, which all threads share.
"""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kd.explainers.base import SEED, Asker, Explainer, ExplainerInfo, chunks, columns, like, mean_colour
from kd.models.base import Classifier
from kd.progress import ShareCallback


class PixelExplainer(Explainer):
    """Base of the explainers whose maps lie on the picture: the same at every stage, one image at a time."""

    @abstractmethod
    def attribute(self, ask: Asker, image: Tensor, targets: Tensor) -> Tensor:
        """Raw maps [T, S, S] of a picture [3, S, S] for targets [T]."""

    @abstractmethod
    def passes(self, image: Tensor, targets: int) -> int:
        """About how many pictures the model is asked about for so many targets of one picture [3, S, S]."""

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        wanted = columns(targets)
        ask = Asker(model, progress, max(1, sum(self.passes(image, wanted.shape[1]) for image in images)))
        # One by one: each picture's map is then the same in any batch, and memory does not grow with the batch.
        maps = torch.stack([self.attribute(ask, image, row) for image, row in zip(images, wanted, strict=True)])
        return [like(targets, maps)] * len(stages)


class PathExplainer(PixelExplainer):
    """Base of those that average `(x − b) · ∂y/∂x` over points between baselines b and the picture x."""

    points: int

    @abstractmethod
    def path(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(baselines [M, 3, S, S] or [1, 3, S, S], how far from them to the picture [M], weights [M] that sum to 1)."""

    def passes(self, image: Tensor, targets: int) -> int:
        return self.points

    def attribute(self, ask: Asker, image: Tensor, targets: Tensor) -> Tensor:
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


def _slopes(ask: Asker, points: Tensor, targets: Tensor) -> list[Tensor]:
    """For each target [T] the gradient of its logit at each point: T × [M, 3, S, S]. No `.grad` is touched."""
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()
        scores = ask(leaf)[:, targets].sum(dim=0)
        return [torch.autograd.grad(score, leaf, retain_graph=number < len(scores) - 1)[0]
                for number, score in enumerate(scores)]


class IntegratedGradients(PathExplainer):
    """The gradient averaged on the straight way from a black picture, times the picture (Sundararajan 2017).

    A map sums to logit(picture) − logit(black), up to the error of 20 Gauss-Legendre points. Black pixels get 0.
    """

    info = ExplainerInfo(
        "Integrated gradients", "Sundararajan 2017, arXiv 1703.01365", True,
        "What each pixel adds to the target class's score (below 0: takes from it), against a black picture.",
        "seconds", signed=True, grid="picture")
    points = 20

    def path(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nodes, weights = (torch.from_numpy(part).to(image) for part in np.polynomial.legendre.leggauss(self.points))
        return torch.zeros_like(image)[None], (nodes + 1) / 2, weights / 2


class GradientShap(PathExplainer):
    """Expected gradients (Erion 2021), which approximate Shapley values: random points on the ways from two empty
    pictures, black and the picture's mean colour.

    A map sums, on average over seeds, to logit(picture) − the mean of logit(empty pictures). The seed is fixed.
    """

    info = ExplainerInfo(
        "GradientSHAP", "Lundberg & Lee 2017, arXiv 1705.07874; Erion 2021, arXiv 1906.10670", True,
        "What each pixel adds to the target class's score (below 0: takes from it), against empty pictures.",
        "seconds", signed=True, grid="picture")

    def __init__(self, points: int = 20, seed: int = SEED) -> None:
        self.points, self.seed = points, seed

    def path(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        draw = torch.Generator().manual_seed(self.seed)
        steps = torch.rand(self.points, generator=draw).to(image)
        empty = empty_pictures(image)
        # As many of each: half the randomness of choosing.
        return empty[torch.arange(self.points) % len(empty)], steps, torch.full_like(steps, 1 / self.points)


def empty_pictures(image: Tensor) -> Tensor:
    """What "nothing to see" can look like: black, and the picture's mean colour; [2, 3, S, S]."""
    return torch.stack([torch.zeros_like(image), mean_colour(image)])
