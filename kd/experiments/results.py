"""Results of a distillation over all its seeds: scores with their spread, and the gain over the control in accuracy,
likelihood and calibration. Read from disk, without torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from kd.evaluation.run_warnings import above_majority_of, exceeds_zero, series_warnings
from kd.experiments.differences import (
    ACCURACY,
    ECE,
    NLL,
    NOT_SIGNIFICANT,
    Measure,
    PairedDifference,
    SeedScores,
    between,
    difference,
    ece_difference,
    ece_scores,
    nll_difference,
    nll_scores,
    signed,
)
from kd.metrics.bootstrap import ConfidenceInterval
from kd.roles import ROLES
from kd.store.groups import Replicates
from kd.store.predictions import Predictions, load
from kd.store.runs import Run

OF_SUMMARY = ("accuracy", "macro_f1", "val_macro_f1", "seconds")
SCORES = (*OF_SUMMARY[:2], "nll", "ece", *OF_SUMMARY[2:])


@dataclass(frozen=True)
class ArmResult:
    """Result of one role over the seeds. run: of the first seed. accuracy, macro_f1: test, 0..1. nll: mean negative
    log-likelihood of the true class on test, in nats. ece: expected calibration error on test, 0..1. val_macro_f1: of
    the best epoch, 0..1; choose settings by this, never by the test. seconds: of training. flops_ratio, params_ratio:
    the teacher's by this model's. gain: accuracy minus the teacher's, in points. val_nll: as nll, on validation; None
    where an earlier version did not record it."""

    role: str
    run: Run
    accuracy: SeedScores
    macro_f1: SeedScores
    nll: SeedScores
    ece: SeedScores
    val_macro_f1: SeedScores
    seconds: SeedScores
    parameters: int
    flops: int
    flops_ratio: float
    params_ratio: float
    gain: float
    val_nll: SeedScores | None = None

    @property
    def choice(self) -> tuple[float, float, int]:
        """What settings are chosen by, the largest being the best: validation macro-F1, of equals a lower validation
        cross-entropy, then fewer FLOPs."""
        return self.val_macro_f1.mean, -self.val_nll.mean if self.val_nll else -inf, -self.flops

    def to_json(self) -> dict[str, Any]:
        return {**{name: getattr(self, name).to_json() for name in SCORES}, "parameters": self.parameters,
                "flops": self.flops}


@dataclass(frozen=True)
class DistillationResult:
    """Result of a distillation. vs_teacher, vs_control: the student's paired differences in accuracy. nll_vs_control,
    ece_vs_control: in test cross-entropy and calibration error; below 0 is better.

    seeds: those that have finished. left_out: number of seeds that have not, or were tested on other images. warnings:
    of their runs, as `kd.evaluation.run_warnings` words them. above_majority: mean accuracy of the students minus that
    of the majority-class baseline, -1..1.
    """

    arms: tuple[ArmResult, ...]
    vs_teacher: PairedDifference
    vs_control: PairedDifference
    nll_vs_control: PairedDifference
    ece_vs_control: PairedDifference
    seeds: tuple[int, ...]
    left_out: int
    warnings: tuple[str, ...]
    above_majority: ConfidenceInterval

    @property
    def beats_majority(self) -> bool:
        """Whether the students are significantly better than the majority class, as far as can be said."""
        return exceeds_zero(self.above_majority)

    @property
    def student(self) -> ArmResult:
        return self.arms[-1]

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the summary sentence."""
        return {"seeds": list(self.seeds), "left_out": self.left_out, **{arm.role: arm.to_json() for arm in self.arms},
                "student_minus_control": self.vs_control.to_json(),
                "student_minus_control_nll": self.nll_vs_control.to_json(),
                "student_minus_control_ece": self.ece_vs_control.to_json(),
                "student_minus_teacher": self.vs_teacher.to_json(),
                "above_majority": self.above_majority.to_json(), "warnings": list(self.warnings),
                "sentence": sentence(self)}


def distillation_result(series: Replicates) -> DistillationResult | None:
    """Result over the seeds that have finished; None before the teacher and one seed have."""
    teacher = test_predictions(series.teacher)
    found = [(pair, both) for pair in series.pairs if teacher and (both := _both(pair, teacher))]
    if teacher is None or not found:
        return None
    controls, students = zip(*(pair for pair, _ in found), strict=True)
    by_control, by_student = zip(*(both for _, both in found), strict=True)
    arms = tuple(_arm(role, runs, tested, series.teacher) for role, runs, tested in zip(
        ROLES, ([series.teacher], controls, students), ([teacher], by_control, by_student), strict=True))
    return DistillationResult(arms, difference(by_student, [teacher] * len(found)), difference(by_student, by_control),
                              nll_difference(by_student, by_control), ece_difference(by_student, by_control),
                              tuple(student.spec.seed for student in students), len(series.pairs) - len(found),
                              series_warnings(Replicates(series.teacher, tuple(pair for pair, _ in found))),
                              above_majority_of(by_student))


def test_predictions(run: Run) -> Predictions | None:
    """Test predictions of a finished run; None before that, or where they are missing."""
    return load(run) if run.summary else None


def _both(pair: tuple[Run, Run], teacher: Predictions) -> tuple[Predictions, Predictions] | None:
    """Predictions of control and student, where both have finished and were tested on the teacher's images."""
    control, student = map(test_predictions, pair)
    if control is None or student is None or not (control.same_images(teacher) and student.same_images(teacher)):
        return None
    return control, student


def _arm(role: str, runs: Sequence[Run], tested: Sequence[Predictions], teacher: Run) -> ArmResult:
    own, of_teacher = [run.summary or {} for run in runs], teacher.summary or {}
    scores = {name: SeedScores(tuple(float(one[name]) for one in own)) for name in OF_SUMMARY}
    parameters, flops = own[0]["parameters"], own[0]["flops"]
    return ArmResult(role, runs[0], **scores, nll=nll_scores(tested), ece=ece_scores(tested),
                     parameters=parameters, flops=flops, flops_ratio=of_teacher["flops"] / flops,
                     params_ratio=of_teacher["parameters"] / parameters,
                     gain=100 * (scores["accuracy"].mean - of_teacher["accuracy"]),
                     val_nll=SeedScores(tuple(losses)) if len(losses := [one["val_loss"] for one in own
                                                                         if "val_loss" in one]) == len(own) else None)


def sentence(result: DistillationResult, strong: Callable[[str], str] = str) -> str:
    """Summary of a result in one sentence: accuracy, cost, and where they differ significantly from the control's, test
    cross-entropy and calibration error. strong: markup for a few words."""
    gain, seeds = result.vs_control, len(result.seeds)
    drawn = f"{gain.images:,} test images" + (f" of {gain.people:,} patients" if gain.people else "")
    average = f", on average over {seeds} seeds," if seeds > 1 else ""
    return (f"On {drawn} the student is{average} {_beside(result.vs_teacher, 'its teacher', strong)} and "
            f"{_beside(gain, 'the control', strong)}, at {_share(result.student.flops_ratio)} of the teacher's FLOPs"
            f"{_calibration(result, strong)}.")


def _calibration(result: DistillationResult, strong: Callable[[str], str]) -> str:
    """`; its cross-entropy is better than the control's (−0.25 nats, …)`; empty where nothing is significant."""
    told = [one for one in (result.nll_vs_control, result.ece_vs_control) if one.verdict != NOT_SIGNIFICANT]
    words = [f"its {one.measure.name} is {strong(one.verdict)} than the control's "
             f"({signed(one.value, one.measure.digits)} {one.measure.unit}, {between(one)})" for one in told]
    return "; " + " and ".join(words) if words else ""


def _share(lighter: float) -> str:
    """Share of the teacher's cost in per cent, with two digits."""
    left = 100 / lighter
    return f"{left:.0f} %" if left >= 10 else f"{left:.2g} %"


def _beside(one: PairedDifference, name: str, strong: Callable[[str], str]) -> str:
    lead = f"{strong(_apart(one))} {name}" if one.value else f"{strong('level')} with {name}"
    level = one.has_interval and one.verdict == NOT_SIGNIFICANT
    return f"{lead} ({between(one)}{', not significant' if level else ''})"


def _apart(one: PairedDifference) -> str:
    """`2.5 points above`."""
    return f"{abs(one.value):.{one.measure.digits}f} {one.measure.unit} {'above' if one.value > 0 else 'below'}"


def differences(result: DistillationResult) -> str:
    """`Student − control: accuracy +0.3 points (−1.7 to +2.2), …`: in each measure, also where not significant."""
    gaps = (result.vs_control, result.nll_vs_control, result.ece_vs_control)
    words = (f"{one.measure.name} {signed(one.value, one.measure.digits)} {one.measure.unit} ({between(one)})"
             for one in gaps)
    return f"Student − control: {', '.join(words)}"


def rows(result: DistillationResult) -> list[dict[str, str]]:
    """Table of accuracies in per cent, a row per seed and one for all, with the student's differences from the control:
    in accuracy and calibration error in points, in cross-entropy in nats."""
    _, control, student = result.arms
    gaps = {"difference": result.vs_control, "NLL": result.nll_vs_control, "ECE": result.ece_vs_control}
    found = [{"seed": str(seed), "control": f"{100 * control.accuracy.values[number]:.1f}",
              "student": f"{100 * student.accuracy.values[number]:.1f}",
              **{name: signed(one.by_seed.values[number], one.measure.digits) for name, one in gaps.items()}}
             for number, seed in enumerate(result.seeds)]
    return [*found, {"seed": "all", "control": spread(control.accuracy, ACCURACY),
                     "student": spread(student.accuracy, ACCURACY),
                     **{name: with_interval(one) for name, one in gaps.items()}}]


def with_interval(one: PairedDifference) -> str:
    """`+3.4 (−1.2 to +8.0)`."""
    return f"{signed(one.value, one.measure.digits)} ({between(one)})"


def spread(scores: SeedScores, measure: Measure) -> str:
    """`90.0 ± 1.2`, in per cent or nats: the mean and, with several seeds, the standard deviation."""
    known = (one for one in (scores.mean, scores.sd) if one is not None)
    return " ± ".join(f"{measure.scale * one:.{measure.digits}f}" for one in known)


def comparison(result: DistillationResult) -> list[dict[str, str]]:
    """Table of what distilling bought: a row for accuracy, macro-F1, NLL and ECE, a column for each role, and one for
    the student's difference from the control."""
    gaps = (("Accuracy, %", "accuracy", ACCURACY, result.vs_control), ("Macro-F1, %", "macro_f1", ACCURACY, None),
            ("NLL, nats", "nll", NLL, result.nll_vs_control), ("ECE, %", "ece", ECE, result.ece_vs_control))
    return [{"": title, **{arm.role: spread(getattr(arm, name), measure) for arm in result.arms},
             "student − control": with_interval(gap) if gap else ""} for title, name, measure, gap in gaps]
