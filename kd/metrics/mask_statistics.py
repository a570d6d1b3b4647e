"""Statistics of a masked student's masks over many images, and whether the masks have collapsed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.renamings import current_advice

# The largest area that a mask can be set to is a half: above this value, most masks rank no place above another.
OPEN = 0.65
# Masks of the same organ correlate too, at 0.4 to 0.6 in trials; at this value, four fifths of a mask's variance are
# common to all images.
ALIKE = 0.9
LEAK = 0.05  # accuracy above the most frequent class's share that luck explains on a few hundred images
LEVEL = 1e-3  # standard deviation within a mask below which it counts as flat and has no correlation


@dataclass(frozen=True)
class MaskStatistics:
    """Statistics of the masks of many images. area, area_sd, median_area: mean, standard deviation and median of the
    share of the image that a mask shows, 0..1. mean_correlation: of the masks of two images, -1..1, None where fewer
    than two vary."""

    area: float
    area_sd: float
    median_area: float
    mean_correlation: float | None

    @property
    def collapsed(self) -> str:
        """Kind of collapse that makes the masks useless as explanations, and its remedy; empty where there is none."""
        if self.median_area > OPEN:
            return (f"Mask collapsed: all open. Half of the masks show more than {100 * self.median_area:.3g} % of the "
                    "image: the mask network ranks no place above another, so they explain nothing. Train for more "
                    "epochs, or raise target_weight.")
        if self.mean_correlation is not None and self.mean_correlation > ALIKE:
            return (f"Mask collapsed: the same for every image (correlation {self.mean_correlation:.2f}), so it "
                    "explains none of them. Train for more epochs, or take a deeper or wider mask network.")
        return ""

    def to_json(self) -> dict[str, Any]:
        """Entry of a run's summary on its masks."""
        return {"area": self.area, "area_sd": self.area_sd, "alike": self.mean_correlation, "collapsed": self.collapsed}


def leak(fill_only: float, majority: float) -> str:
    """Warning that a student reads its class from the fill; empty where it does not.

    fill_only: its accuracy when everything is hidden. majority: share of the most frequent class, which a student that
    sees nothing can reach. Both 0..1.
    """
    if fill_only <= majority + LEAK:
        return ""
    return (f"The fill tells the class: with everything hidden the student is right on {100 * fill_only:.3g} % of the "
            f"test images (the most frequent class: {100 * majority:.3g} %), so its mask does not explain its answers. "
            "Set mask_fill to mean.")


class BatchStatistics(NamedTuple):
    """Statistics of the masks of one batch. areas: the share that each shows [B]. direction: sum [S·S] of the centred
    masks, each of length 1, over the `varying` that are not flat."""

    areas: NDArray[np.float64]
    direction: NDArray[np.float64]
    varying: int


def batch_statistics(masks: NDArray[np.floating]) -> BatchStatistics:
    """Statistics of masks [B, S, S] in 0..1."""
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    around = flat - flat.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(around).sum(axis=1))
    varying = length > LEVEL * np.sqrt(flat.shape[1])
    return BatchStatistics(flat.mean(axis=1), (around[varying] / length[varying, None]).sum(axis=0), int(varying.sum()))


class MaskAccumulator:
    """Accumulator of mask statistics, a batch at a time; the masks themselves are not kept."""

    def __init__(self) -> None:
        self._areas: list[NDArray[np.float64]] = []
        self._sum: NDArray[np.float64] | float = 0.0
        self._varying = 0

    def add(self, masks: NDArray[np.floating]) -> None:
        """Count masks [B, S, S] in 0..1, all of one size."""
        self.add_statistics(batch_statistics(masks))

    def add_statistics(self, batch: BatchStatistics) -> None:
        """Count a batch that was measured elsewhere. Sums depend on the order of the batches, in their last digit."""
        self._areas.append(batch.areas)
        self._sum = self._sum + batch.direction
        self._varying += batch.varying

    def report(self) -> MaskStatistics | None:
        """Statistics of all masks that were added; None where there were none."""
        if not self._areas:
            return None
        areas = np.concatenate(self._areas)
        return MaskStatistics(float(areas.mean()), float(areas.std()), float(np.median(areas)), self._alike())

    def _alike(self) -> float | None:
        """Mean correlation over all pairs: the square of a sum of unit vectors is their number plus these."""
        count = self._varying
        if count < 2:
            return None
        return float((np.square(self._sum).sum() - count) / (count * (count - 1)))


def mask_warning(summary: Mapping[str, Any] | None) -> str:
    """Warnings of a run's summary on its masks: that they collapsed, that the fill tells the class. Empty without."""
    mask = (summary or {}).get("mask") or {}
    return " ".join(filter(None, (current_advice(mask.get("collapsed", "")), mask.get("leak", ""))))
