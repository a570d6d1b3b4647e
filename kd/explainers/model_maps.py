"""Maps that a model computes itself in one forward pass: stage maps, and the mask of a masked student."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kd.explainers.base import Explainer, ExplainerInfo, features_of, for_every_target
from kd.models.base import Classifier
from kd.observation import stage_map
from kd.progress import ShareCallback


class StageMaps(Explainer):
    """Channel-average feature map of a stage (KD-FMV, AAAI-25); below 0 where the stage's features are."""

    info = ExplainerInfo(
        "Stage maps", "Jiang 2025 (KD-FMV, AAAI-25), arXiv 2502.15959", False,
        "Bright where a stage responds strongly on average over its channels, whatever the class.",
        forward_only=True)

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        with torch.no_grad():
            return [for_every_target(stage_map(maps), targets) for maps in features_of(model, images, stages)]


class Mask(Explainer):
    """Map that the mask of a masked student is cut from (MED-TEX, Nguyen-Duc 2022), on the image's grid.

    It does not depend on the target class. Its brightest place is that of the largest log-odds; the mask itself, 0 or
    1, would have ties all over the area that it shows. Raises UsageError for a model without a mask network;
    `kd.explainers.explainer_for` names its replacement.
    """

    info = ExplainerInfo(
        "Mask", "Nguyen-Duc 2022 (MED-TEX), arXiv 2008.02593", False,
        "Bright where the mask network expects the evidence; the student sees the brightest part of the image only.",
        absolute=True, grid="picture")

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        with torch.no_grad():
            return [for_every_target(model.mask_map(images), targets)] * len(stages)
