"""The hierarchy of a model as KD-FMV shows it: every stage's features, averaged over channels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kd.explainers.base import Explainer, ExplainerFacts, for_every_target
from kd.models.base import Classifier
from kd.observation import stage_map
from kd.progress import ShareCallback


class StageMaps(Explainer):
    """The channel-average feature map of a stage (KD-FMV, AAAI-25). Signed where the stage's features are."""

    facts = ExplainerFacts(
        "Stage maps", "Jiang 2025 (KD-FMV, AAAI-25), arXiv 2502.15959", False,
        "Bright where a stage responds strongly on average over its channels, to anything: no class is asked about.")

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        with torch.no_grad():
            features = model.forward_stages((images - model.mean) / model.std)
            return [for_every_target(stage_map(features[stage]), targets) for stage in stages]
