"""Agreement of two models' explanation maps and predictions over many images, beside a baseline. In numpy.

Maps are compared for the same class, at the coarser of the two native grids and at most 56 cells a side. The baseline
compares the maps of the same two models for *different* images, so it contains every similarity that is independent of
the image, such as a bias to the centre; the excess is the agreement above it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.metrics.bootstrap import (
    SHARE_SPAN,
    ConfidenceInterval,
    bootstrap_ci,
    centre_gaussian,
    derangements,
    scatter_back,
)
from kd.metrics.classification import known_values, softmax
from kd.metrics.grids import is_coarse
from kd.metrics.map_similarity import LESS_IS_MORE, MEASURES, to_grid
from kd.placement import Placement

Maps = NDArray[np.floating]
Values = NDArray[np.float64]
FINEST = 56  # cells a side: pixel maps are compared on the grid of an early stage, or single-pixel noise would decide
ROUNDS = 5  # other images that each image is compared with for the baseline
ALL, SAME, OTHER = CASES = ("all", "same class", "other class")


@dataclass(frozen=True, eq=False)
class MapAgreement:
    """Agreement of two stacks of maps, per measure and image [N]; nan where one of the two maps is blank.

    values: on the same image. chance: the baseline, the mean over other images. centre: of the first model's map with a
    centred Gaussian. excess: above the baseline; positive means more similar, also for distances. grid: height, width.
    """

    grid: tuple[int, int]
    values: dict[str, Values]
    chance: dict[str, Values]
    centre: dict[str, Values]
    blank: NDArray[np.bool_]

    @property
    def excess(self) -> dict[str, Values]:
        return {name: (-1 if name in LESS_IS_MORE else 1) * (self.values[name] - self.chance[name])
                for name in self.values}

    def to_json(self, same_class: NDArray[np.bool_], groups: Sequence[str] | None = None) -> dict[str, Any]:
        """Means with bootstrap intervals: over all images, those with the same predicted class [N], and the others."""
        chosen = {ALL: np.ones(len(self.blank), bool), SAME: same_class, OTHER: ~same_class}
        return {"grid": list(self.grid), "coarse": is_coarse(self.grid), "images": len(self.blank),
                "blank": int(self.blank.sum()),
                **{case: self._case(pick, groups) for case, pick in chosen.items()}}

    def _case(self, pick: NDArray[np.bool_], groups: Sequence[str] | None) -> dict[str, Any]:
        return {name: {"value": ci_of(self.values[name], pick, groups).to_json(),
                       "chance": known_values(nanmean(self.chance[name][pick])),
                       "centre": known_values(nanmean(self.centre[name][pick])),
                       "excess": ci_of(self.excess[name], pick, groups).to_json()}
                for name in self.values}

    def arrays(self) -> dict[str, Values]:
        """Values per image, for an npz file: `<measure>` and `<measure>_excess`."""
        return {**self.values, **{f"{name}_excess": values for name, values in self.excess.items()}}


def map_agreement(first: Maps, second: Maps, first_blank: NDArray[np.bool_], second_blank: NDArray[np.bool_],
                  seed: int = 0, placements: tuple[Placement | None, Placement | None] = (None, None)) -> MapAgreement:
    """Agreement of maps [N, H1, W1] and [N, H2, W2] in 0..1 of the same images for the same classes.

    placements: where the cells of either lie in the image; None for maps that are stretched over it.
    """
    grid = shared_grid(first.shape[1:], second.shape[1:])
    left, right = to_grid(first, *grid, placements[0]), to_grid(second, *grid, placements[1])
    blank = first_blank | second_blank
    kept = np.flatnonzero(~blank)
    pairs = derangements(len(kept), ROUNDS, seed)
    middle = np.broadcast_to(centre_gaussian(*grid), (len(kept), *grid))
    values, chance, centre = {}, {}, {}
    for name, measure in MEASURES.items():
        values[name] = scatter_back(measure(left[kept], right[kept]), kept, len(blank))
        others = [measure(left[kept], right[kept[other]]) for other in pairs]
        chance[name] = scatter_back(np.mean(others, axis=0) if others else np.full(len(kept), np.nan), kept, len(blank))
        centre[name] = scatter_back(measure(left[kept], middle), kept, len(blank))
    return MapAgreement(grid, values, chance, centre, blank)


def shared_grid(first: Sequence[int], second: Sequence[int]) -> tuple[int, int]:
    """Rows and columns on which maps of two grids are compared: the coarser ones, at most FINEST."""
    return min(FINEST, first[0], second[0]), min(FINEST, first[1], second[1])


def gain_vs_control(student: MapAgreement, control: MapAgreement,
                    groups: Sequence[str] | None = None) -> dict[str, Any]:
    """Gain in agreement with the teacher by distillation: the student's excess minus the control's, per measure.

    Paired over the images where no map is blank; an interval that excludes 0 is significant.
    """
    of_student, of_control = student.excess, control.excess
    return {name: bootstrap_ci(of_student[name] - of_control[name], groups).to_json() for name in of_student}


def class_agreement(first: Maps, second: Maps, truth: NDArray[np.int64],
                    groups: Sequence[str] | None = None) -> dict[str, Any]:
    """Agreement of two models' predictions, from logits [N, K]; `first` is the teacher.

    agreement: share of images with the same predicted class. kl: divergence of the second's probabilities from the
    first's, nats. both_wrong, same_wrong: share of images that both misclassify, and misclassify as the same class,
    each beside the value expected of two models with independent errors at the same rates within each true class.
    """
    classes = first.shape[1]
    one, other = first.argmax(axis=1), second.argmax(axis=1)
    wrong = (one != truth) & (other != truth)
    both, same = _independent(one, other, truth, classes)
    shares = {"agreement": one == other, "both_wrong": wrong, "same_wrong": wrong & (one == other)}
    return {"images": len(truth), "kl": bootstrap_ci(divergence(first, second), groups).to_json(),
            **{name: bootstrap_ci(flags.astype(float), groups, span=SHARE_SPAN).to_json()
               for name, flags in shares.items()},
            "both_wrong_expected": both, "same_wrong_expected": same}


def divergence(first: Maps, second: Maps) -> Values:
    """Kullback-Leibler divergence of softmax(second) from softmax(first) [N], in nats."""
    p, q = (np.maximum(softmax(logits), 1e-12) for logits in (first, second))
    return np.asarray((p * (np.log(p) - np.log(q))).sum(axis=1))


def _independent(one: NDArray[np.int64], other: NDArray[np.int64], truth: NDArray[np.int64],
                 classes: int) -> tuple[float | None, float | None]:
    """Shares of (both wrong, same wrong class) expected of independent errors. Computed within each true class, because
    a class that is hard for both models makes their errors coincide."""
    both = same = 0.0
    for label in np.unique(truth):
        own = truth == label
        p, q = (np.bincount(predicted[own], minlength=classes) / own.sum() for predicted in (one, other))
        both += own.sum() * (1 - p[label]) * (1 - q[label])
        same += own.sum() * (p @ q - p[label] * q[label])
    return (float(both / len(truth)), float(same / len(truth))) if len(truth) else (None, None)


def ci_of(values: Values, pick: NDArray[np.bool_], groups: Sequence[str] | None) -> ConfidenceInterval:
    """Confidence interval of the mean over the chosen images."""
    return bootstrap_ci(values[pick], None if groups is None else np.asarray(groups)[pick].tolist())


def nanmean(values: Values) -> float:
    """Mean of the finite values; nan when there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
