"""Where a mask is drawn, whether its numbers are labels or brightness."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_LABELS = 31  # numbers of a label map are counted, not measured


def drawn_part(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a mask [H, W] or [H, W, 3] is drawn: every label of a label map (0, 1, 2 or 0, 1, 4), else what is brighter
    than half its brightest value, so that a soft edge is cut in its middle."""
    numbers = np.nan_to_num(values.max(axis=2) if values.ndim == 3 else values)
    top = float(numbers.max())
    return np.asarray(numbers > 0 if top <= 0 or is_label_map(numbers) else numbers > top / 2)


def is_label_map(values: NDArray[Any]) -> bool:
    """Whether numbers [H, W] of a mask are labels: whole, and small or a few that all cover areas, not just edges."""
    found, counts = np.unique(values[values > 0], return_counts=True)
    if found.size > _MOST_LABELS or (found.dtype.kind == "f" and (found != np.rint(found)).any()):
        return False
    return float(found.max()) <= _MOST_LABELS or (found.size <= 8 and counts.min() >= counts.sum() / 20)
