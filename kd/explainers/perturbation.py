"""Explainers that occlude parts of the image: occlusion and KernelSHAP, over superpixels or a grid."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.explainers.attribution import PixelExplainer
from kd.explainers.base import CHUNK, SEED, CountedModel, ExplainerInfo, mean_colour, without_noise
from kd.torch_utils.rng import isolated_rng

COUNT = 49
SIDE = 7
FEWEST = 12  # with fewer patches, an explanation is too coarse


def superpixels(image: Tensor, count: int = COUNT) -> Tensor:
    """Superpixels, about `count` of an image [3, S, S] in 0..1: int64 [S, S], numbered from 0 without gaps.

    SLIC (Achanta 2012); where it finds too few, as on noise or an empty image, a grid of 7 × 7.
    """
    from skimage.segmentation import slic

    pixels = image.detach().permute(1, 2, 0).cpu().double().numpy()
    if np.ptp(pixels) == 0:  # slic divides by the range
        return _grid(image)
    found = slic(pixels, n_segments=count, compactness=10, start_label=0, channel_axis=-1)
    numbered: NDArray[np.int64] = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    if numbered.max() + 1 < FEWEST:
        return _grid(image)
    return torch.from_numpy(numbered.astype(np.int64)).to(image.device)


def _grid(image: Tensor) -> Tensor:
    rows, cols = (torch.arange(side, device=image.device) * min(SIDE, side) // side for side in image.shape[1:])
    return rows[:, None] * min(SIDE, image.shape[2]) + cols


ACROSS = 7  # windows per side: as fine as the last stage of most networks


class Occlusion(PixelExplainer):
    """Decrease of the class logit when a window is filled, averaged over the windows at each pixel (Zeiler 2014).

    Windows have a seventh of the image's side and overlap by half. Signed: below 0 where the score rises when the
    window is filled.
    """

    info = ExplainerInfo(
        "Occlusion", "Zeiler & Fergus 2014, arXiv 1311.2901", True,
        "What the target class's score loses when this place is covered (below 0: it gains).",
        "seconds", signed=True, grid="picture", forward_only=True)

    def attribute(self, ask: CountedModel, image: Tensor, targets: Tensor) -> Tensor:
        from captum.attr import Occlusion as Captum

        (tall, wide), strides = _window(image)
        with torch.no_grad():
            maps = [Captum(ask).attribute(
                image[None], sliding_window_shapes=(3, tall, wide), strides=(3, *strides), target=int(target),
                baselines=mean_colour(image)[None], perturbations_per_eval=CHUNK)[0, 0] for target in targets]
            return without_noise(torch.stack(maps), ask.model(image[None], stages=False).logits)

    def passes(self, image: Tensor, targets: int) -> int:
        window, strides = _window(image)
        counts = [1 + -(-(side - length) // stride)
                  for side, length, stride in zip(image.shape[1:], window, strides, strict=True)]
        return targets * (1 + counts[0] * counts[1])


def _window(image: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the window, and its steps."""
    tall, wide = (max(1, -(-side // ACROSS)) for side in image.shape[1:])
    return (tall, wide), (max(1, tall // 2), max(1, wide // 2))


class KernelShap(PixelExplainer):
    """Shapley values of superpixels, by weighted least squares over random selections of them (Lundberg & Lee 2017).

    Every pixel has its superpixel's value; the values of all superpixels sum to logit(image) − logit(mean colour).
    The selections are seeded.
    """

    info = ExplainerInfo(
        "KernelSHAP", "Lundberg & Lee 2017, arXiv 1705.07874", True,
        "What each patch of like colour adds to the target class's score (below 0: takes from it).",
        "seconds", signed=True, grid="superpixels", forward_only=True)

    def __init__(self, samples: int = 150, seed: int = SEED) -> None:
        self.samples, self.seed = samples, seed

    def attribute(self, ask: CountedModel, image: Tensor, targets: Tensor) -> Tensor:
        from captum.attr import KernelShap as Captum

        patches = superpixels(image).expand(1, 3, -1, -1)
        maps = []
        with torch.no_grad():
            logits = ask.model(image[None], stages=False).logits
            if not logits.isfinite().all():  # the solver would raise
                return torch.full((len(targets), *image.shape[1:]), torch.nan, device=image.device)
            for target in targets:
                with isolated_rng(self.seed):  # the same selections for every class
                    found = Captum(ask).attribute(
                        image[None], baselines=mean_colour(image)[None], target=int(target), feature_mask=patches,
                        n_samples=self.samples, perturbations_per_eval=CHUNK)
                maps.append(found[0, 0])  # a patch has one value, not one per colour
            return without_noise(torch.stack(maps), logits)

    def passes(self, image: Tensor, targets: int) -> int:
        return targets * (self.samples + 1)
