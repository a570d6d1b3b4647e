"""One colour scale for several maps. Honest only where they have one unit: never between two models' scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scale:
    """Least and greatest value that the colours tell apart."""

    low: float
    high: float

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Values [H, W] as their place on the scale in 0..1; what lies beyond its ends, or is nan, at the ends."""
        place = (np.nan_to_num(values.astype(np.float64)) - self.low) / (self.high - self.low)
        return np.clip(place, 0.0, 1.0).astype(np.float32)


def shared_scale(maps: Sequence[NDArray[np.floating]]) -> Scale | None:
    """From the least to the greatest value of all maps; None where no two finite values differ."""
    values = _finite(maps)
    return Scale(float(values.min()), float(values.max())) if values.size and values.min() < values.max() else None


def centred_scale(maps: Sequence[NDArray[np.floating]], share: float = 1.0) -> Scale | None:
    """For signed maps: as far below 0 as above it, so that 0 is the middle; None where all is 0.

    share: of the values (0..1) that the scale must hold; below 1, single peaks do not darken all the rest.
    """
    values = np.abs(_finite(maps))
    end = float(np.quantile(values, share)) if values.size else 0.0
    end = end or float(values.max(initial=0.0))
    return Scale(-end, end) if end else None


def per_image(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Class-weighted values [H, W], each multiplied by the number of places.

    What the target's score would gain if the whole picture were like this place: so grids of every size have one unit,
    and the mean over the map is what the stage adds.
    """
    return (values * values.size).astype(np.float32)


def _finite(maps: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    values = np.concatenate([one.ravel() for one in maps]).astype(np.float64) if maps else np.empty(0)
    return values[np.isfinite(values)]
