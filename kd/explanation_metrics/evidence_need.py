"""Need of the evidence: how many of a model's decisions stay the same when the annotated evidence is blurred away.

A map of a model that does not need the evidence need not point at it, however faithful it is. So no score of
localisation should be read without this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kd.datasets.tensors import to_tensor
from kd.metrics.bootstrap import GAP_SPAN, SHARE_SPAN, bootstrap_ci
from kd.models.base import Classifier
from kd.progress import ShareCallback, no_share
from kd.torch_utils.smoothing import gaussian_blur

GROWN = 0.03  # of the side, by which the evidence is grown: its rim tells of it, too
BLUR = 0.125  # standard deviation, as a share of the side: only the coarsest shading is left
BATCH = 16
WITHOUT, MIRRORED, ALONE, BLURRED = VARIANTS = ("without", "mirrored", "alone", "blurred")

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class EvidenceNeed:
    """Decisions of one model that stay the same, by what is left of the image: bool [N] each.

    A decision is the class that the model predicts for the whole image, right or wrong. kept: of WITHOUT the evidence
    (replaced by a blur of what surrounds it), without its MIRRORED region instead (the control: as large a change
    elsewhere), by the evidence ALONE (the rest blurred), and of the entirely BLURRED image (the baseline of the
    latter). area: share of the image that the grown evidence takes [N]. overlap: share of it that its mirrored region
    covers, too [N].
    """

    kept: dict[str, Flags]
    area: NDArray[np.float64]
    overlap: NDArray[np.float64]

    def to_json(self, groups: Sequence[str] | None = None) -> dict[str, Any]:
        """Shares with bootstrap intervals by patient, and the paired differences: mirrored − without (what the evidence
        itself is needed for) and alone − blurred."""
        return {"images": len(self.area), "grown": GROWN, "blur": BLUR,
                "area": bootstrap_ci(self.area).mean, "overlap": bootstrap_ci(self.overlap).mean,
                "kept": {name: bootstrap_ci(flags.astype(float), groups, span=SHARE_SPAN).to_json()
                         for name, flags in self.kept.items()},
                "mirrored_minus_without": self._gap(MIRRORED, WITHOUT, groups),
                "alone_minus_blurred": self._gap(ALONE, BLURRED, groups)}

    def _gap(self, one: str, other: str, groups: Sequence[str] | None) -> dict[str, Any]:
        return bootstrap_ci(self.kept[one].astype(float) - self.kept[other], groups, span=GAP_SPAN).to_json()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Values per image."""
        return {**self.kept, "area": self.area, "overlap": self.overlap}


def evidence_need(model: Classifier, images: NDArray[np.uint8], masks: NDArray[np.uint8],
                  progress: ShareCallback = no_share) -> EvidenceNeed:
    """Need of a model for the evidence in images [N, S, S, 3]. masks: of the evidence [N, S, S], above 0 where it is,
    none empty. progress: may raise to stop."""
    kept: dict[str, list[Tensor]] = {name: [] for name in VARIANTS}
    area, overlap = [], []
    for start in range(0, len(images), BATCH):
        progress(start / len(images))
        batch = to_tensor(images[start:start + BATCH], model.mean.device)
        region = grown(torch.from_numpy(np.asarray(masks[start:start + BATCH]) > 0).to(batch.device))
        decided = _decisions(model, batch)
        for name, changed in _variants(batch, region).items():
            kept[name].append(_decisions(model, changed) == decided)
        area.append(region.double().mean(dim=(1, 2)))
        overlap.append((region & region.flip(-1)).sum(dim=(1, 2)) / region.sum(dim=(1, 2)).double())
    return EvidenceNeed({name: _joined(parts) for name, parts in kept.items()}, _joined(area), _joined(overlap))


def grown(masks: Tensor) -> Tensor:
    """Masks bool [N, S, S] grown by a disc whose radius is 3 % of the side, rounded to pixels."""
    reach = round(GROWN * masks.shape[-1])
    away = torch.arange(-reach, reach + 1, device=masks.device)
    disc = (away[:, None].square() + away.square() <= reach**2).float()
    return F.conv2d(masks[:, None].float(), disc[None, None], padding=reach)[:, 0] > 0.5


def without(images: Tensor, region: Tensor) -> Tensor:
    """Images [N, 3, S, S] in which a region, bool [N, S, S], is replaced by a Gaussian average of what lies outside of
    it: nothing of its content is left, however large it is."""
    outside = (~region)[:, None].to(images)
    around = gaussian_blur(images * outside, BLUR) / gaussian_blur(outside, BLUR).clamp_min(1e-30)
    return torch.where(region[:, None], around, images)


def _variants(images: Tensor, region: Tensor) -> dict[str, Tensor]:
    blurred = gaussian_blur(images, BLUR)
    return {WITHOUT: without(images, region), MIRRORED: without(images, region.flip(-1)),
            ALONE: torch.where(region[:, None], images, blurred), BLURRED: blurred}


def _decisions(model: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images, stages=False).logits.argmax(dim=1)


def _joined(parts: list[Tensor]) -> NDArray[Any]:
    return np.asarray(torch.cat(parts).cpu().numpy()) if parts else np.empty(0)
