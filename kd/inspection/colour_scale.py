"""Colour scales shared by several maps. They must have one unit: never share a scale between two models' scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scale:
    """Range of values that the colours distinguish."""

    low: float
    high: float

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Positions of values [H, W] on the scale in 0..1, clipped to its ends; nan counts as 0 before scaling."""
        place = (np.nan_to_num(values.astype(np.float64)) - self.low) / (self.high - self.low)
        return np.clip(place, 0.0, 1.0).astype(np.float32)


def shared_scale(maps: Sequence[NDArray[np.floating]]) -> Scale | None:
    """Scale from the minimum to the maximum of all maps; None where no two finite values differ."""
    values = _finite(maps)
    return Scale(float(values.min()), float(values.max())) if values.size and values.min() < values.max() else None


def centred_scale(maps: Sequence[NDArray[np.floating]], share: float = 1.0) -> Scale | None:
    """Scale for signed maps, symmetric around 0; None where all values are 0.

    share: of the values (0..1) that the scale must contain; below 1, single peaks do not darken everything else.
    """
    values = np.abs(_finite(maps))
    end = float(np.quantile(values, share)) if values.size else 0.0
    end = end or float(values.max(initial=0.0))
    return Scale(-end, end) if end else None


def per_image(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Class-weighted values [H, W], each multiplied by the number of places.

    A value is then the contribution to the target's logit if the whole image were like this place: grids of every size
    have the same unit, and the mean over the map is the stage's contribution.
    """
    return (values * values.size).astype(np.float32)


def _finite(maps: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    values = np.concatenate([one.ravel() for one in maps]).astype(np.float64) if maps else np.empty(0)
    return values[np.isfinite(values)]
