"""What a class's score loses when parts of the picture are taken away, by captum.

Parts are filled with the picture's mean colour. captum gets the model as a plain function, so nothing is attached.
"""

import torch
from torch import Tensor

from kd.explainers.attribution import PixelExplainer
from kd.explainers.base import CHUNK, SEED, Asker, ExplainerFacts, mean_colour, without_noise
from kd.explainers.superpixels import superpixels
from kd.torch_utils.rng import isolated_rng

ACROSS = 7  # windows side by side: as fine as the last stage of most networks


class Occlusion(PixelExplainer):
    """The fall of the class logit when a window is filled, averaged over the windows that hold a pixel (Zeiler 2014).

    Windows have a seventh of the picture's side and overlap by half. Signed: a window without which the score rises
    speaks against the class.
    """

    facts = ExplainerFacts(
        "Occlusion", "Zeiler & Fergus 2014, arXiv 1311.2901", True,
        "What the target class's score loses when this place is covered (below 0: it gains).",
        "seconds", signed=True, grid="picture")

    def attribute(self, ask: Asker, image: Tensor, targets: Tensor) -> Tensor:
        from captum.attr import Occlusion as Captum

        (tall, wide), strides = _window(image)
        with torch.no_grad():
            maps = [Captum(ask).attribute(
                image[None], sliding_window_shapes=(3, tall, wide), strides=(3, *strides), target=int(target),
                baselines=mean_colour(image)[None], perturbations_per_eval=CHUNK)[0, 0] for target in targets]
            return without_noise(torch.stack(maps), ask.model(image[None]).logits)

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

    Every pixel has its superpixel's value; the values of all superpixels sum to logit(picture) − logit(mean colour).
    The selections are seeded.
    """

    facts = ExplainerFacts(
        "KernelSHAP", "Lundberg & Lee 2017, arXiv 1705.07874", True,
        "What each patch of like colour adds to the target class's score (below 0: takes from it).",
        "seconds", signed=True, grid="superpixels")

    def __init__(self, samples: int = 150, seed: int = SEED) -> None:
        self.samples, self.seed = samples, seed

    def attribute(self, ask: Asker, image: Tensor, targets: Tensor) -> Tensor:
        from captum.attr import KernelShap as Captum

        patches = superpixels(image).expand(1, 3, -1, -1)
        maps = []
        with torch.no_grad():
            logits = ask.model(image[None]).logits
            if not logits.isfinite().all():  # which the solver would refuse
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
