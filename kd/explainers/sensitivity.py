"""Sensitivity of the class score to a fine stage's features: where the answer would change, not what speaks for it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kd.explainers.base import Explainer, ExplainerInfo, StageChoice
from kd.explainers.gradient_cams import gradients_from_image
from kd.models.base import Classifier
from kd.placement import Placement
from kd.progress import ShareCallback
from kd.torch_utils.smoothing import gaussian_blur

BLUR = 0.04  # standard deviation, as a share of the side


class Sensitivity(Explainer):
    """`Σ_c |F_c ⊙ g_c|`, blurred with a standard deviation of 4 % of the side; g is the gradient of the class logit.

    Gradient times activation (Shrikumar 2016) in magnitude, by default of the stage whose reduction is closest to 4:
    later grids are too coarse for a small finding. For a model of a data set that allows mirroring
    (`Classifier.mirrors`) it is the mean with the map of the mirrored image, mirrored back.
    """

    info = ExplainerInfo(
        "Sensitivity", "after Simonyan 2013, arXiv 1312.6034, and Shrikumar 2016, arXiv 1605.01713", True,
        "Bright where the answer is sensitive: the target class's score would rise or fall with the features there; "
        "this is not what speaks for the class.", reduction=4)

    def placement(self, model: Classifier, stage: StageChoice, size: int) -> Placement | None:
        """As of other maps; across, the mean with a mirrored map lies in the middle between the two."""
        laid = super().placement(model, stage, size)
        if laid is None or not model.mirrors:
            return laid
        (down, _), (_, across) = laid.first, laid.step
        columns = math.ceil(1 / across - 1e-6)  # the last one can begin in the image and end outside
        return Placement((down, (1 - (columns - 1) * across) / 2), laid.step)

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        if not model.mirrors:
            return self._magnitudes(model, images, targets, stages)
        both = torch.cat([images, images.flip(-1)])
        halves = (maps.chunk(2) for maps in self._magnitudes(model, both, torch.cat([targets, targets]), stages))
        return [(maps + mirrored.flip(-1)) / 2 for maps, mirrored in halves]

    @staticmethod
    def _magnitudes(model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int]) -> list[Tensor]:
        return [gaussian_blur((features * gradients).abs().sum(dim=-3), BLUR)
                for features, gradients in gradients_from_image(model, images, targets, stages)]
