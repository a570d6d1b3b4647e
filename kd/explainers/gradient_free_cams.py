"""Class activation maps without gradients: EigenCAM, Score-CAM and Ablation-CAM.

Own code instead of the package grad-cam's, which computes full decompositions (630 MB for a stage of 112 × 112), holds
all masked images at once (1.6 GB for a DenseNet), draws progress bars, and runs the whole model where the head would
do. Tests compare these maps with its.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kd.explainers.base import (
    CountedModel,
    Explainer,
    ExplainerInfo,
    chunks,
    columns,
    features_of,
    for_every_target,
    like,
    without_noise,
)
from kd.models.base import Classifier
from kd.progress import ShareCallback


class EigenCam(Explainer):
    """A stage's features, centred, projected on their first principal direction over channels (Muhammad 2020).

    A direction has no sign: the side with the greatest magnitude counts as positive, and ReLU removes the other.
    """

    info = ExplainerInfo(
        "EigenCAM", "Muhammad 2020, arXiv 2008.00299", False,
        "Bright where the stage's most varying pattern is: what stands out to it, whatever the class.",
        forward_only=True)

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        with torch.no_grad():
            return [for_every_target(_first_direction(maps), targets) for maps in features_of(model, images, stages)]


def _first_direction(features: Tensor) -> Tensor:
    """Maps [N, H, W] of features [N, C, H, W]; nan where features are not finite."""
    finite = features.isfinite().all(dim=(1, 2, 3))
    places = features.where(finite[:, None, None, None], 0.0).flatten(2).double()
    centred = places - places.mean(dim=2, keepdim=True)
    # The smaller of the two Gram matrices has the same first direction: 49 × 49 and not 2048 × 2048.
    if centred.shape[1] <= centred.shape[2]:
        _, vectors = torch.linalg.eigh(centred @ centred.mT)
        maps = (vectors[:, :, -1:].mT @ centred)[:, 0]
    else:
        values, vectors = torch.linalg.eigh(centred.mT @ centred)
        maps = vectors[:, :, -1] * values[:, -1:].clamp_min(0).sqrt()
    flipped = maps.amax(dim=1, keepdim=True) < -maps.amin(dim=1, keepdim=True)
    least = 1e-6 * places.abs().amax(dim=(1, 2)).clamp_min(1e-30)[:, None]  # below it, rounding around a constant
    maps = torch.where(centred.abs().amax(dim=(1, 2))[:, None] > least, torch.where(flipped, -maps, maps), 0.0)
    maps = maps.relu().where(finite[:, None], torch.nan)
    return maps.view(len(features), *features.shape[2:]).float()


class ScoreCam(Explainer):
    """`ReLU(Σ_c w_c·F_c)`, w = softmax over channels of the class logit of the image multiplied by channel c, stretched
    over the image as in the paper and scaled to 0..1 (Wang 2020). All classes from the same passes."""

    info = ExplainerInfo(
        "Score-CAM", "Wang 2020, arXiv 1910.01279", True,
        "Bright where channels respond that keep the target class's score when only their places are shown.", "minutes",
        forward_only=True)

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        wanted = columns(targets)
        with torch.no_grad():
            features = model.forward_stages(model.prepare(images))
            ask = CountedModel(model, progress, len(images) * sum(features[stage].shape[1] for stage in stages))
            found = [torch.stack([_scored(ask, *one) for one in zip(images, features[stage], wanted, strict=True)])
                     for stage in stages]
        return [like(targets, maps) for maps in found]


def _scored(ask: CountedModel, image: Tensor, features: Tensor, targets: Tensor) -> Tensor:
    """Maps [T, H, W] from an image [3, S, S], features [C, H, W] and targets [T]."""
    logits = torch.cat([ask(image * _masks(features[part], image.shape[-2:])) for part in chunks(len(features))])
    weights = logits[:, targets].softmax(dim=0)
    return torch.einsum("ct,chw->thw", weights, features).relu()


def _masks(features: Tensor, size: Sequence[int]) -> Tensor:
    """Channels [C, H, W] as masks [C, 1, S, S] in 0..1."""
    raised = F.interpolate(features[:, None], list(size), mode="bilinear", align_corners=True)
    low, high = raised.amin(dim=(2, 3), keepdim=True), raised.amax(dim=(2, 3), keepdim=True)
    return (raised - low) / (high - low + 1e-8)


class AblationCam(Explainer):
    """`ReLU(Σ_c w_c·F_c)`, w_c = decrease of the class logit when channel c is set to 0 (Desai 2020).

    The decrease is not divided by the logit as in the paper, which would invert the map where the logit is below 0. At
    the last stage only the head is computed. All classes from the same passes.
    """

    info = ExplainerInfo(
        "Ablation-CAM", "Desai & Ramaswamy 2020 (WACV, no arXiv), doi 10.1109/WACV45572.2020.9093360", True,
        "Bright where channels respond without which the target class's score falls.", "minutes")

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        wanted = columns(targets)
        with torch.no_grad():
            logits, features, *_ = model(images)
            ask = CountedModel(model, progress, len(images) * sum(features[stage].shape[1] for stage in stages))
            found = [torch.stack([_ablated(ask, stage, *one) for one in
                                  zip(images, features[stage], logits, wanted, strict=True)]) for stage in stages]
        return [like(targets, maps) for maps in found]


def _ablated(ask: CountedModel, stage: int, image: Tensor, features: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """Maps [T, H, W] from an image [3, S, S], its features [C, H, W], logits [K] and targets [T]."""
    falls = []
    for part in chunks(len(features)):
        numbers = torch.arange(part.start, part.stop, device=features.device)
        altered = features.repeat(len(numbers), 1, 1, 1)
        altered[torch.arange(len(numbers)), numbers] = 0
        falls.append(logits - ask.model.forward_from(image.expand(len(numbers), -1, -1, -1), stage, altered))
        ask.count(len(numbers))
    weights = torch.cat(falls)[:, targets]
    return without_noise(torch.einsum("ct,chw->thw", weights, features).relu(), logits * features.abs().amax())
