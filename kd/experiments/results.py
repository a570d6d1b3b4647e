"""Results of a distillation over all its seeds: scores with their spread, and the gain over the control.

Two sources of variance are kept apart: the test images (a confidence interval, paired by image, resampled by patient
where patients are known) and the seeds (a standard deviation). Read from disk, without torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from kd.metrics.bootstrap import GAP_SPAN, SHARE_SPAN, ConfidenceInterval, bootstrap_ci
from kd.roles import ROLES
from kd.store.groups import Replicates
from kd.store.predictions import Predictions, load
from kd.store.runs import Run

BETTER, WORSE, NOT_SIGNIFICANT = VERDICTS = ("better", "worse", "not significantly different")
SCORES = ("accuracy", "macro_f1", "val_macro_f1", "seconds")


@dataclass(frozen=True)
class SeedScores:
    """Scores of one kind over the seeds, in the seeds' order."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation; None for a single seed."""
        return stdev(self.values) if self.n > 1 else None

    def to_json(self) -> dict[str, Any]:
        return {"mean": self.mean, "sd": self.sd, "n": self.n, "values": list(self.values)}


@dataclass(frozen=True)
class PairedDifference:
    """Paired difference in accuracy of two models on the same test images, in percentage points, over the seeds.

    points: the mean over seeds. low, high: its 95 % bootstrap interval, of these trained models on other test images;
    None where there are too few images, or patients, for one.
    by_seed: the difference of each seed. people: number of patients that are resampled; None where patients are not
    known, and images are resampled.
    """

    points: float
    low: float | None
    high: float | None
    by_seed: SeedScores
    images: int
    people: int | None = None

    @property
    def has_interval(self) -> bool:
        """Whether there is a confidence interval."""
        return self.low is not None

    @property
    def verdict(self) -> str:
        """One of VERDICTS: better or worse only where the interval excludes 0."""
        if self.low is None or self.high is None:
            return NOT_SIGNIFICANT
        return BETTER if self.low > 0 else WORSE if self.high < 0 else NOT_SIGNIFICANT

    def to_json(self) -> dict[str, Any]:
        return {"points": self.points, "low": self.low, "high": self.high, "sd": self.by_seed.sd,
                "by_seed": list(self.by_seed.values), "images": self.images, "people": self.people,
                "verdict": self.verdict}


def difference(first: Sequence[Predictions], second: Sequence[Predictions]) -> PairedDifference:
    """Paired difference of two models on the same test images, a pair of predictions per seed.

    Images are resampled (percentile bootstrap, Efron 1979) with both models' predictions, so that images which both get
    right or wrong add no noise; by patient where patients are known, because images of one patient are correlated. In
    each resample the difference is averaged over the seeds.
    """
    change = np.stack([one.right.astype(np.float64) - other.right for one, other in zip(first, second, strict=True)])
    people = _people((*first, *second))
    found = bootstrap_ci(change.mean(axis=0), people, span=GAP_SPAN)
    low, high = (None if edge is None else 100 * edge for edge in (found.low, found.high))
    by_seed = SeedScores(tuple(100 * float(one) for one in change.mean(axis=1)))
    return PairedDifference(100 * float(change.mean()), low, high, by_seed, found.n,
                      None if people is None else len(set(people)))


def accuracy_ci(models: Sequence[Predictions]) -> ConfidenceInterval:
    """Mean accuracy of several seeds on the same test images, 0..1, with a confidence interval as in `difference`."""
    return bootstrap_ci(np.stack([one.right for one in models]).mean(axis=0), _people(models), span=SHARE_SPAN)


def _people(models: Sequence[Predictions]) -> tuple[str, ...] | None:
    return next((one.groups for one in models if one.groups), None)


@dataclass(frozen=True)
class ArmResult:
    """Result of one role over the seeds. run: of the first seed. accuracy, macro_f1: test, 0..1. val_macro_f1: of the
    best epoch, 0..1; choose settings by this, never by the test. seconds: of training. flops_ratio, params_ratio: the
    teacher's by this model's. gain: accuracy minus the teacher's, in points."""

    role: str
    run: Run
    accuracy: SeedScores
    macro_f1: SeedScores
    val_macro_f1: SeedScores
    seconds: SeedScores
    parameters: int
    flops: int
    flops_ratio: float
    params_ratio: float
    gain: float

    def to_json(self) -> dict[str, Any]:
        return {**{name: getattr(self, name).to_json() for name in SCORES}, "parameters": self.parameters,
                "flops": self.flops}


@dataclass(frozen=True)
class DistillationResult:
    """Result of a distillation. vs_teacher, vs_control: the student's paired differences.

    seeds: those that have finished. left_out: number of seeds that have not, or were tested on other images.
    """

    arms: tuple[ArmResult, ...]
    vs_teacher: PairedDifference
    vs_control: PairedDifference
    seeds: tuple[int, ...]
    left_out: int

    @property
    def student(self) -> ArmResult:
        return self.arms[-1]

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the summary sentence."""
        return {"seeds": list(self.seeds), "left_out": self.left_out, **{arm.role: arm.to_json() for arm in self.arms},
                "student_minus_control": self.vs_control.to_json(), "student_minus_teacher": self.vs_teacher.to_json(),
                "sentence": sentence(self)}


def distillation_result(series: Replicates) -> DistillationResult | None:
    """Result over the seeds that have finished; None before the teacher and one seed have."""
    teacher = test_predictions(series.teacher)
    found = [(pair, both) for pair in series.pairs if teacher and (both := _both(pair, teacher))]
    if teacher is None or not found:
        return None
    controls, students = zip(*(pair for pair, _ in found), strict=True)
    by_control, by_student = zip(*(both for _, both in found), strict=True)
    arms = tuple(_arm(role, runs, series.teacher) for role, runs in zip(ROLES, ([series.teacher], controls, students),
                                                                        strict=True))
    return DistillationResult(arms, difference(by_student, [teacher] * len(found)), difference(by_student, by_control),
                              tuple(student.spec.seed for student in students), len(series.pairs) - len(found))


def test_predictions(run: Run) -> Predictions | None:
    """Test predictions of a finished run; None before that, or where they are missing."""
    return load(run) if run.summary else None


def _both(pair: tuple[Run, Run], teacher: Predictions) -> tuple[Predictions, Predictions] | None:
    """Predictions of control and student, where both have finished and were tested on the teacher's images."""
    control, student = map(test_predictions, pair)
    if control is None or student is None or not (control.same_images(teacher) and student.same_images(teacher)):
        return None
    return control, student


def _arm(role: str, runs: Sequence[Run], teacher: Run) -> ArmResult:
    own, of_teacher = [run.summary or {} for run in runs], teacher.summary or {}
    scores = {name: SeedScores(tuple(float(one[name]) for one in own)) for name in SCORES}
    parameters, flops = own[0]["parameters"], own[0]["flops"]
    return ArmResult(role, runs[0], **scores, parameters=parameters, flops=flops,
                     flops_ratio=of_teacher["flops"] / flops, params_ratio=of_teacher["parameters"] / parameters,
                     gain=100 * (scores["accuracy"].mean - of_teacher["accuracy"]))


def sentence(result: DistillationResult, strong: Callable[[str], str] = str) -> str:
    """Summary of a result in one sentence. strong: markup for a few words."""
    gain, seeds = result.vs_control, len(result.seeds)
    drawn = f"{gain.images:,} test images" + (f" of {gain.people:,} patients" if gain.people else "")
    average = f", on average over {seeds} seeds," if seeds > 1 else ""
    return (f"On {drawn} the student is{average} {_beside(result.vs_teacher, 'its teacher', strong)} and "
            f"{_beside(gain, 'the control', strong)}, at {_share(result.student.flops_ratio)} of the teacher's FLOPs.")


def _share(lighter: float) -> str:
    """Share of the teacher's cost in per cent, with two digits."""
    left = 100 / lighter
    return f"{left:.0f} %" if left >= 10 else f"{left:.2g} %"


def _beside(one: PairedDifference, name: str, strong: Callable[[str], str]) -> str:
    way = "above" if one.points > 0 else "below"
    lead = f"{strong(f'{abs(one.points):.1f} points {way}')} {name}" if one.points else f"{strong('level')} with {name}"
    level = one.has_interval and one.verdict == NOT_SIGNIFICANT
    return f"{lead} ({between(one)}{', not significant' if level else ''})"


def between(one: PairedDifference) -> str:
    """The interval in points, with a typographic minus: `−1.2 to +3.4`; or that there is none."""
    if one.low is None or one.high is None:
        return f"too few {'images' if one.people is None else 'patients'} for an interval"
    return f"{signed(one.low)} to {signed(one.high)}"


def rows(result: DistillationResult) -> list[dict[str, str]]:
    """Table of scores in per cent, a row per seed and one for all, with the gain over the control in points."""
    _, control, student = result.arms
    own = zip(result.seeds, control.accuracy.values, student.accuracy.values, result.vs_control.by_seed.values,
              strict=True)
    found = [{"seed": str(seed), "control": f"{100 * first:.1f}", "student": f"{100 * second:.1f}",
              "difference": signed(gap)} for seed, first, second, gap in own]
    return [*found, {"seed": "all", "control": _spread(control.accuracy), "student": _spread(student.accuracy),
                     "difference": f"{signed(result.vs_control.points)} ({between(result.vs_control)})"}]


def _spread(scores: SeedScores) -> str:
    return f"{100 * scores.mean:.1f}" + ("" if scores.sd is None else f" ± {100 * scores.sd:.1f}")


def signed(points: float) -> str:
    """Points with their sign: `+3.4`, `−1.2`; zero is `+0.0`."""
    return f"{round(points, 1) + 0.0:+.1f}".replace("-", "−")
