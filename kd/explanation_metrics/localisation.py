"""Localisation of maps on annotated evidence, beside baselines: the evidence's area, a centred map, maps of the image
alone, and the model's maps of other images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.base import Split
from kd.explanation_metrics.image_only import image_only_maps
from kd.metrics.bootstrap import GAP_SPAN, SHARE_SPAN, bootstrap_ci, centre_gaussian, derangements, scatter_back
from kd.placement import Placement
from kd.torch_utils.resize import upsample

SCORES = ("pointing", "energy", "iou_otsu", "iou_best", "auprc")
THRESHOLDS = np.arange(1, 20) / 20
BINS = 256
BATCH = 64
ROUNDS = 2  # other images whose maps are scored against each image's evidence

Values = NDArray[np.float64]
Heat = NDArray[np.float32]
Scores = dict[str, Values]


def masked(split: Split, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions in `index` [n] of the images with annotated evidence that is not empty."""
    if split.evidence is None or split.has_evidence is None:
        return np.empty(0, np.int64)
    annotated = [bool(split.has_evidence[number]) and bool(split.evidence[number].any()) for number in index]
    return np.flatnonzero(annotated)


def measure(maps: NDArray[np.floating], masks: NDArray[np.uint8],
            placement: Placement | None = None) -> tuple[Scores, Values]:
    """Scores of maps [N, h, w] in 0..1 against evidence masks [N, S, S], none empty, and the IoU at each threshold.

    placement: where the maps' cells lie in the image; None for maps that are stretched over it.

    pointing: 1 where the centre of the map's brightest cell is in the mask (Zhang 2016, without tolerance), averaged
    over ties; of the cell, because upsampled maps are brightest along the rim. energy: share of the map's sum inside
    (Wang 2020). iou_otsu: of the mask and the map at Otsu's threshold. iou_best: at the threshold with the highest mean
    over these images. auprc: average precision over pixels. All 0..1. The second result is [N, thresholds].
    """
    rows = []
    for start in range(0, len(maps), BATCH):
        inside = np.asarray(masks[start:start + BATCH]) > 0
        own = torch.from_numpy(np.array(maps[start:start + BATCH], np.float32))
        heat = upsample(own, inside.shape[1], placement).numpy()
        scores = _batch(heat.reshape(len(heat), -1), inside.reshape(len(inside), -1))
        rows.append((_pointing(maps[start:start + BATCH], inside, placement), *scores))
    if not rows:
        return {score: np.empty(0) for score in SCORES}, np.empty((0, len(THRESHOLDS)))
    pointing, energy, otsu, auprc, curve = (np.concatenate(column) for column in zip(*rows, strict=True))
    best = curve[:, int(curve.mean(axis=0).argmax())]
    return {"pointing": pointing, "energy": energy, "iou_otsu": otsu, "iou_best": best, "auprc": auprc}, curve


def nan_where_blank(maps: NDArray[np.floating], blank: NDArray[np.bool_], masks: NDArray[np.uint8],
                    placement: Placement | None = None) -> Scores:
    """Scores as by `measure`, nan [N] where a map is blank, for paired comparisons of two maps of the same images."""
    kept = np.flatnonzero(~blank)
    scores, _ = measure(maps[kept], masks[kept], placement)
    return {score: scatter_back(values, kept, len(blank)) for score, values in scores.items()}


@dataclass(frozen=True, eq=False)
class Localisation:
    """Scores per image [N], nan where the map is blank, and their baselines.

    area: share of the image that is evidence [N]: the expected score of a uniform map (also the IoU of the whole
    image). centre: scores of a centred Gaussian. others: of the same model's maps of other images, which contain where
    evidence usually is. image_only: of maps that no model has seen, by their names. threshold: of iou_best, chosen on
    these images, so slightly optimistic.
    """

    scores: Scores
    area: Values
    centre: Scores
    others: Scores
    threshold: float
    blank: NDArray[np.bool_]
    image_only: Mapping[str, Scores] = field(default_factory=dict)

    def to_json(self, labels: NDArray[np.int64], classes: Sequence[str],
                groups: Sequence[str] | None = None) -> dict[str, Any]:
        """Means with bootstrap intervals, over all images and per class [N]."""
        per_class = {name: {"images": int(own.sum()), "area": bootstrap_ci(self.area[own & ~self.blank]).mean,
                            **{score: bootstrap_ci(self.scores[score][own]).mean for score in SCORES}}
                     for number, name in enumerate(classes) if (own := labels == number).any()}
        return {"images": len(self.area), "blank": int(self.blank.sum()), "threshold": self.threshold,
                "area": bootstrap_ci(self.area[~self.blank]).mean, "scores": {score: self._score(score, groups)
                                                                          for score in SCORES},
                "per_class": per_class}

    def _score(self, score: str, groups: Sequence[str] | None) -> dict[str, Any]:
        values, left = self.scores[score], ~self.blank
        return {"value": bootstrap_ci(values, groups, span=SHARE_SPAN).to_json(),
                "centre": bootstrap_ci(self.centre[score][left]).mean,
                "others": bootstrap_ci(self.others[score]).mean,
                "over_area": bootstrap_ci(values - self.area, groups, span=GAP_SPAN).to_json(),
                "over_centre": bootstrap_ci(values - self.centre[score], groups, span=GAP_SPAN).to_json(),
                "over_others": bootstrap_ci(values - self.others[score], groups, span=GAP_SPAN).to_json(),
                "image_only": {name: bootstrap_ci(one[score][left]).mean for name, one in self.image_only.items()},
                "over_image_only": {name: bootstrap_ci(values - one[score], groups, span=GAP_SPAN).to_json()
                                    for name, one in self.image_only.items()}}


def image_only_scores(images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> dict[str, Scores]:
    """Scores of the image-only maps of images [N, S, S, 3] by name: see `kd.explanation_metrics.image_only`."""
    return {name: measure(maps, masks)[0] for name, maps in image_only_maps(images).items()}


def localisation(maps: NDArray[np.floating], blank: NDArray[np.bool_], masks: NDArray[np.uint8],
                 seed: int = 0, image_only: Mapping[str, Scores] | None = None,
                 placement: Placement | None = None) -> Localisation:
    """Localisation of maps [N, h, w] in 0..1 on evidence masks [N, S, S], none of them empty. image_only: from
    `image_only_scores` of the same images. placement: see `measure`."""
    kept, count = np.flatnonzero(~blank), len(blank)
    scores, curve = measure(maps[kept], masks[kept], placement)
    threshold = float(THRESHOLDS[curve.mean(axis=0).argmax()]) if len(kept) else float(THRESHOLDS[0])
    side = masks.shape[1]
    middle, _ = measure(np.broadcast_to(centre_gaussian(side, side), (count, side, side)), masks)
    shuffled = [measure(maps[kept[pair]], masks[kept], placement)[0] for pair in derangements(len(kept), ROUNDS, seed)]
    others = {score: np.mean([one[score] for one in shuffled], axis=0) if shuffled else np.full(len(kept), np.nan)
              for score in SCORES}
    return Localisation({score: scatter_back(values, kept, count) for score, values in scores.items()},
                        (np.asarray(masks) > 0).mean(axis=(1, 2)), middle,
                        {score: scatter_back(values, kept, count) for score, values in others.items()}, threshold,
                        blank, image_only or {})


def otsu(values: NDArray[np.floating]) -> float:
    """Otsu's threshold in 0..1, which best separates values in 0..1 into two classes (Otsu 1979)."""
    counts, edges = np.histogram(values, BINS, (0.0, 1.0))
    middle = (edges[:-1] + edges[1:]) / 2
    below, mass = counts.cumsum(), (counts * middle).cumsum()
    above = below[-1] - below
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = mass / below - (mass[-1] - mass) / above
    spread = np.nan_to_num(below.astype(float) * above * gap**2)[:-1]
    # Within a wide gap between the two classes all thresholds are equally good: the middle is the most stable.
    return float(edges[1:-1][np.isclose(spread, spread.max())].mean())


def _pointing(maps: NDArray[np.floating], inside: NDArray[np.bool_], placement: Placement | None) -> Values:
    """Share of a map's brightest cells [B, h, w] whose centre is in the mask [B, S, S]."""
    grid = (maps.shape[1], maps.shape[2])
    down, across = (np.clip(centres * side, 0, side - 1).astype(np.int64) for centres, side
                    in zip((placement or Placement.even(grid)).centres(grid), inside.shape[1:], strict=True))
    peak = maps == maps.max(axis=(1, 2), keepdims=True)
    return np.asarray((peak & inside[:, down][:, :, across]).sum(axis=(1, 2)) / peak.sum(axis=(1, 2)), np.float64)


def _batch(heat: Heat, inside: NDArray[np.bool_]) -> tuple[Values, ...]:
    """Scores of one batch of flat images [B, P]."""
    energy = (heat * inside).sum(axis=1) / heat.sum(axis=1)
    cut = np.array([otsu(one) for one in heat])
    curve = np.stack([_iou(heat >= threshold, inside) for threshold in THRESHOLDS], axis=1)
    return energy, _iou(heat >= cut[:, None], inside), _average_precision(heat, inside), curve


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> Values:
    return np.asarray((one & other).sum(axis=1) / (one | other).sum(axis=1), np.float64)


def _average_precision(heat: Heat, inside: NDArray[np.bool_]) -> Values:
    """Average precision over pixels, with pixels of equal value at one threshold."""
    from sklearn.metrics import average_precision_score

    return np.array([average_precision_score(own, one) for one, own in zip(heat, inside, strict=True)])
