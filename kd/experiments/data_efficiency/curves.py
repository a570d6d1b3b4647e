"""Learning curves of a sweep over shares of the training images: test accuracy of control and students against share.

Any sweep with that axis can be read, also an unfinished one. Read from run folders, without torch.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from kd import datasets
from kd.experiments.differences import WORSE, PairedDifference, SeedScores, accuracy_ci, difference
from kd.experiments.results import test_predictions
from kd.experiments.sweep import AXES, Sweep
from kd.experiments.sweep.results import Row, changed
from kd.experiments.sweep.words import Value, describe
from kd.metrics.bootstrap import ConfidenceInterval, error_bars
from kd.paths import Paths
from kd.roles import CONTROL, STUDENT
from kd.spec import NONE, REST
from kd.store.predictions import Predictions
from kd.store.runs import Run, Store

FRACTION = "data_fraction"
OF_METHOD = ("method", "unlabelled")  # settings of a student that its control does not have


@dataclass(frozen=True)
class Point:
    """Point of a learning curve: one model with one share of the training images, over the finished seeds.

    images: their number; None where it is not known. passes: epochs over them. accuracy: test, 0..1, of every seed.
    interval: 95 % confidence interval of its mean, of these models on other test images, resampled by patient where
    patients are known. vs_control: student − control, both with this share; None for the control. vs_full_control:
    this − the control with the largest share of all, None before that has finished. Both are paired by image.
    """

    fraction: float
    images: int | None
    passes: int
    seeds: tuple[int, ...]
    accuracy: SeedScores
    interval: ConfidenceInterval
    vs_control: PairedDifference | None
    vs_full_control: PairedDifference | None

    @property
    def error_bars(self) -> tuple[float, float]:
        """Lengths of the error bars below and above the mean; 0 where there is no interval."""
        return error_bars(self.accuracy.mean, self.interval.low, self.interval.high)


@dataclass(frozen=True)
class Curve:
    """Learning curve of one model, smallest share first. role: control or student. fractions: all shares of the sweep;
    points: of those that have finished."""

    name: str
    role: str
    fractions: tuple[float, ...]
    points: tuple[Point, ...]

    @property
    def enough(self) -> Point | None:
        """Smallest share from which on the model is not significantly worse than the control with the largest share.

        Shares below one that has not finished are not considered, since that one may turn out worse.
        """
        come, found = {point.fraction: point for point in self.points}, None
        for fraction in reversed(self.fractions):
            point = come.get(fraction)
            if point is None or point.vs_full_control is None or point.vs_full_control.verdict == WORSE:
                break
            found = point
        return found


@dataclass(frozen=True)
class LearningCurves:
    """Learning curves of one control and its students.

    data: the data set's name. title: settings in which these models differ from others of the sweep; mostly empty.
    curves: the control first. images: by share, None where not known. teacher, teacher_accuracy, teacher_fraction: its
    model, its test accuracy, and the share of the images that it was trained on. majority: accuracy of the
    majority-class baseline on the test split. tested, people: number of test images, and of their patients where known.
    whole: whether every seed of every model has finished.
    """

    data: str
    title: str
    curves: tuple[Curve, ...]
    images: dict[float, int | None]
    teacher: str
    teacher_accuracy: float
    teacher_fraction: float
    majority: float
    tested: int
    people: int | None
    whole: bool

    @property
    def fractions(self) -> tuple[float, ...]:
        return tuple(self.images)

    @property
    def students(self) -> tuple[Curve, ...]:
        return tuple(curve for curve in self.curves if curve.role == STUDENT)

    @property
    def seeds(self) -> int:
        """Largest number of seeds of any point."""
        return max((len(point.seeds) for curve in self.curves for point in curve.points), default=0)


def learning_curves(sweep: Sweep, rows: Sequence[Row], store: Store) -> list[LearningCurves]:
    """Learning curves, one set per control settings (besides the share), in the cells' order.

    Empty where the sweep has no axis of shares, or before its teacher and some control or student have finished.
    """
    teacher = store.get(rows[0].cell.teacher) if FRACTION in sweep.axes and rows else None
    taught = test_predictions(teacher) if teacher else None
    if teacher is None or taught is None:
        return []
    found = (_study(title, alike, sweep, teacher, taught, store) for title, alike in _parted(rows, _of_control).items())
    return [one for one in found if one.seeds]


def _study(title: str, rows: Sequence[Row], sweep: Sweep, teacher: Run, taught: Predictions,
           store: Store) -> LearningCurves:
    images = {share: _images(teacher, share, store.paths) for share in map(float, sweep.axes[FRACTION])}
    controls = {float(row.settings[FRACTION]): row for row in rows}
    best = _finished(controls.get(max(images)), 0, store)
    curves = [_curve(CONTROL, CONTROL, controls.values(), best, images, teacher, store)]
    for name, own in _parted(rows, _of_method).items():
        shared = {key: value for key, value in _base(sweep).items() if key not in sweep.axes}
        full = ", ".join(filter(None, (describe(shared), name)))
        curves.append(_curve(full, STUDENT, [*own, *_whole_data(own, rows)], best, images, teacher, store))
    groups = len(set(taught.groups)) if taught.groups else None
    name = Path(sweep.base.data.split(":", 1)[0]).stem
    return LearningCurves(name, title, tuple(curves), images, teacher.spec.model_label, float(taught.right.mean()),
                          teacher.spec.data_fraction, float(np.bincount(taught.labels).max() / len(taught.labels)),
                          len(taught.labels), groups, all(row.done == row.runs for row in rows))


def _curve(name: str, role: str, rows: Iterable[Row], best: tuple[Run, ...], images: dict[float, int | None],
           teacher: Run, store: Store) -> Curve:
    points = []
    for row in sorted(rows, key=lambda row: row.settings[FRACTION]):
        share, own = float(row.settings[FRACTION]), _finished(row, int(role == STUDENT), store)
        found = _measured(own, best, teacher, tuple(changed(run, "predictions.npz") for run in (*own, *best, teacher)))
        if found:
            bought = row.outcome.vs_control if row.outcome and role == STUDENT else None
            points.append(Point(share, images[share], own[0].spec.epochs, found[0], found[1], found[2], bought,
                                found[3]))
    return Curve(name, role, tuple(sorted(images)), tuple(points))


@lru_cache(maxsize=1024)
def _measured(own: tuple[Run, ...], best: tuple[Run, ...], teacher: Run, _changed: tuple[int, ...]
              ) -> tuple[tuple[int, ...], SeedScores, ConfidenceInterval, PairedDifference | None] | None:
    """Seeds, accuracies, the interval of their mean, and the difference from the best; None before the first seed.

    Cached, because the bootstrap is slow and pages poll every second. Runs tested on other images than the teacher are
    left out.
    """
    taught = test_predictions(teacher)
    answered, others = ({run.spec.seed: found for run in runs if taught and (found := test_predictions(run))
                         and found.same_images(taught)} for runs in (own, best))
    if not answered:
        return None
    both = [seed for seed in answered if seed in others]
    behind = difference([answered[seed] for seed in both], [others[seed] for seed in both]) if both else None
    models = list(answered.values())
    return tuple(answered), SeedScores(tuple(float(one.right.mean()) for one in models)), accuracy_ci(models), behind


def _finished(row: Row | None, part: int, store: Store) -> tuple[Run, ...]:
    """A cell's controls (part 0) or students (1) that have finished."""
    ids = [pair[part] for pair in row.cell.pairs] if row else []
    return tuple(run for run_id in ids if (run := store.get(run_id)) and run.summary)


def _parted(rows: Sequence[Row], which: Callable[[str], bool]) -> dict[str, list[Row]]:
    """Rows grouped by these settings; the keys are the settings in words."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(describe({name: value for name, value in row.settings.items() if which(name)}), []).append(row)
    return found


def _base(sweep: Sweep) -> dict[str, Value]:
    return {"method": sweep.base.method, "unlabelled": sweep.base.unlabelled}


def _whole_data(own: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Row of the same student with all of the images, where its own have the rest of them without labels: of all images
    there is no rest, so it is the student without unlabelled images."""
    settings = {**own[0].settings, "unlabelled": NONE, FRACTION: 1.0}
    return [row for row in rows if row.settings == settings] if own[0].settings.get("unlabelled") == REST else []


def _of_control(setting: str) -> bool:
    """Whether a setting determines the control, at one share."""
    return setting in AXES and setting not in (*OF_METHOD, FRACTION)


def _of_method(setting: str) -> bool:
    return setting in OF_METHOD or setting not in AXES


def _images(teacher: Run, share: float, paths: Paths) -> int | None:
    """Number of training images of a share of the teacher's data set."""
    counts = (teacher.summary or {}).get("data", {}).get("counts", {}).get("train")
    return None if counts is None else _taken(teacher.spec.data_fingerprint, teacher.spec.image_size, share,
                                              tuple(counts), paths)


@lru_cache(maxsize=256)
def _taken(fingerprint: str, size: int, share: float, counts: tuple[int, ...], paths: Paths) -> int:
    return datasets.images_taken(fingerprint, size, share, counts, paths)
