"""Faithfulness of maps: insertion, deletion, ROAD, average drop and confidence increase, in torch.

Every score is reported beside those of two baseline maps that are independent of the model: a random one and a centred
Gaussian.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets.tensors import to_tensor
from kd.metrics.bootstrap import GAP_SPAN, RANDOM_GRID, SHARE_SPAN, bootstrap_ci, centre_gaussian
from kd.metrics.inpainting import blur, inpaint
from kd.models.base import Classifier
from kd.placement import Placement
from kd.progress import ShareCallback, no_share
from kd.torch_utils.resize import upsample

STEPS = 10  # of the insertion and deletion curves
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the pixels that ROAD removes
NOISE = 0.01  # standard deviation of the noise that ROAD adds to imputed pixels, so that they are not recognisable
BATCH = 8
SPANS = {"road": (-0.5, 0.5)}  # half the difference of two probabilities; the other scores are shares
SCORES = ("insertion", "deletion", "road", "drop", "increase")
LESS_IS_MORE = frozenset({"deletion", "drop"})

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Scores per image [N] (nan where the map is blank), from probabilities of the explained class.

    insertion: area under the curve while pixels are restored in a blurred image, brightest first (RISE, Petsiuk 2018);
    high is good. deletion: while they are replaced by the model's mean input; low is good. road: half the difference
    between removing the darkest and the brightest pixels first, imputed, averaged over shares (ROAD, Rong 2022); above
    0 is good. drop: relative loss of the image multiplied by its map (Chattopadhay 2018); low is good; increase:
    whether it gains instead, 0 or 1. insertion_curve, deletion_curve: [N, STEPS + 1].
    """

    insertion: Values
    deletion: Values
    road: Values
    drop: Values
    increase: Values
    insertion_curve: Values
    deletion_curve: Values

    def over(self, chance: "Faithfulness", score: str) -> Values:
        """Gain over another map of the same images: positive is better for every score."""
        return (-1 if score in LESS_IS_MORE else 1) * (getattr(self, score) - getattr(chance, score))

    def means(self) -> dict[str, float | None]:
        """Means of all scores."""
        return {score: bootstrap_ci(getattr(self, score)).mean for score in SCORES}


def faithfulness(model: Classifier, images: NDArray[np.uint8], targets: NDArray[np.int64], maps: NDArray[np.floating],
                 blank: NDArray[np.bool_] | None = None, seed: int = 0, progress: ShareCallback = no_share,
                 placement: Placement | None = None) -> Faithfulness:
    """Faithfulness of maps [N, h, w] in 0..1 of images [N, S, S, 3] for the classes [N].

    progress: may raise to stop. placement: where the maps' cells lie in the image; None for maps that are stretched
    over it.
    """
    rows, count = [], len(images)
    for start in range(0, count, BATCH):
        progress(start / count)
        part = slice(start, start + BATCH)
        device = model.mean.device
        heat = torch.from_numpy(np.array(maps[part], np.float32)).to(device)
        test = _Test(model, to_tensor(images[part], device), torch.from_numpy(targets[part]).to(device),
                     upsample(heat, images.shape[1], placement), _seeds(seed, start, len(heat)))
        rows.append(test.scores())
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    if blank is not None:
        for column in columns:
            column[blank] = np.nan
    return Faithfulness(*columns)


def centred_maps(count: int, side: int) -> NDArray[np.float32]:
    """Centred Gaussian maps [N, side, side]."""
    return np.broadcast_to(centre_gaussian(side, side), (count, side, side))


def summary(found: Faithfulness, chance: dict[str, Faithfulness],
            groups: Sequence[str] | None = None) -> dict[str, Any]:
    """Summary for JSON: of each score the mean with a bootstrap interval, that of each baseline map, and the gain."""
    scores = {}
    for score in SCORES:
        finite = np.isfinite(getattr(found, score))
        value = bootstrap_ci(getattr(found, score), groups, span=SPANS.get(score, SHARE_SPAN))
        scores[score] = {"value": value.to_json(),
                         **{name: bootstrap_ci(getattr(other, score)[finite]).mean for name, other in chance.items()},
                         **{f"over_{name}": bootstrap_ci(found.over(other, score), groups, span=GAP_SPAN).to_json()
                            for name, other in chance.items()}}
    curves = {"map": found, **chance}
    return {"images": len(found.road), "blank": int(np.isnan(found.road).sum()), "scores": scores,
            "curves": {"share": [step / STEPS for step in range(STEPS + 1)],
                       **{kind: {name: _mean_curve(getattr(one, f"{kind}_curve")) for name, one in curves.items()}
                          for kind in ("insertion", "deletion")}}}


class _Test:
    """One batch: images [B, 3, S, S], targets [B], maps on the images' grid [B, S, S]."""

    def __init__(self, model: Classifier, images: Tensor, targets: Tensor, heat: Tensor, seeds: list[int]) -> None:
        self.model, self.images, self.targets, self.seeds = model, images, targets, seeds
        self.heat, side = heat, images.shape[-1]
        # Plateaus (where ReLU gave 0) are ordered by a smooth random map: by row would prefer the image's top.
        ties = upsample(torch.stack([_drawn(one, RANDOM_GRID, RANDOM_GRID) for one in seeds]).to(images), side)
        order = (self.heat + 1e-5 * ties).flatten(1).argsort(dim=1, descending=True)
        self.rank = order.argsort(dim=1).view_as(self.heat)

    @torch.no_grad()
    def scores(self) -> tuple[Values, ...]:
        whole = self._score(self.images)
        blurred, grey = blur(self.images), self.model.mean.expand_as(self.images)
        insertion, deletion = [self._score(blurred)], [whole]
        for step in range(1, STEPS):
            top = self._top(step / STEPS)
            insertion.append(self._score(torch.where(top, self.images, blurred)))
            deletion.append(self._score(torch.where(top, grey, self.images)))
        curves = [torch.stack([*insertion, whole], dim=1), torch.stack([*deletion, self._score(grey)], dim=1)]
        dimmed = self._score(self.images * self.heat[:, None])
        drop = (whole - dimmed).clamp_min(0) / whole.clamp_min(1e-12)
        areas = [torch.trapezoid(curve, dx=1 / STEPS) for curve in curves]
        found = (*areas, self._road(), drop, (dimmed > whole).to(whole), *curves)
        return tuple(one.double().cpu().numpy() for one in found)

    def _road(self) -> Tensor:
        """ROAD: mean over shares of (least relevant first − most relevant first) / 2."""
        gaps = []
        for share in SHARES:
            without_top, without_bottom = ~self._top(share), self._top(1 - share)
            gaps.append((self._imputed(without_bottom) - self._imputed(without_top)) / 2)
        return torch.stack(gaps).mean(dim=0)

    def _imputed(self, keep: Tensor) -> Tensor:
        filled = inpaint(self.images, keep[:, 0])
        noise = torch.stack([_drawn(one + 1, *filled.shape[1:], normal=True) for one in self.seeds]).to(filled)
        return self._score(torch.where(keep, self.images, filled + NOISE * noise))

    def _top(self, share: float) -> Tensor:
        """Masks [B, 1, S, S], bool, of the brightest share of the pixels."""
        return (self.rank < round(share * self.rank[0].numel()))[:, None]

    def _score(self, images: Tensor) -> Tensor:
        probabilities = self.model(images, stages=False).logits.float().softmax(dim=1)
        return probabilities.gather(1, self.targets[:, None])[:, 0]


def _mean_curve(curves: Values) -> list[float] | None:
    finite = curves[np.isfinite(curves).all(axis=1)]
    return finite.mean(axis=0).tolist() if len(finite) else None


def _seeds(seed: int, start: int, count: int) -> list[int]:
    """Seeds, one per image, so that a result does not depend on the batches."""
    return [2 * int(one) for one in np.random.default_rng(seed).integers(0, 2**40, start + count)[start:]]


def _drawn(seed: int, *shape: int, normal: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) if normal else torch.rand(shape, generator=generator)
