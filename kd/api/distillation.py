"""One call to distil: teacher, control and student trained in this process, and their results."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd import datasets, methods
from kd.api.images import ImageLike, as_image, as_original
from kd.api.progress import ProgressBar
from kd.audit.beside import verdict_of
from kd.datasets import Dataset
from kd.datasets.arrays import Arrays
from kd.errors import UsageError, unknown
from kd.evaluation.run_warnings import series_warnings
from kd.experiments.differences import PairedDifference, SeedScores, accuracy_ci
from kd.experiments.plan import DistillSpec, plan_runs, plan_specs, require_possible
from kd.experiments.presets import SUGGESTED, with_preset
from kd.experiments.results import ArmResult, DistillationResult, distillation_result, sentence, test_predictions
from kd.experiments.working_size import CHOSEN, with_sizes
from kd.explainers import DEFAULT_STAGE, StageChoice
from kd.inspection.answer import answered
from kd.inspection.compare import Comparison
from kd.inspection.compare import compare as compare_runs
from kd.jobs.queue import train_now
from kd.methods import METHODS
from kd.paths import Paths, default_paths
from kd.roles import CONTROL, STUDENT
from kd.store.groups import Replicates, teacher_label
from kd.store.runs import FINISHED, Run, Store

_TAKEN = ("data", "method_args")  # which `distill` takes in a form of its own


@dataclass(frozen=True, eq=False)
class Experiment:
    """A finished distillation; `kd.distill` with the same settings gives it again. Shows itself in a notebook.

    store: where its runs are. series: teacher, and control and student of each seed.
    """

    store: Store
    series: Replicates

    @property
    def teacher(self) -> Run:
        return self.series.teacher

    @property
    def control(self) -> Run:
        """The same student trained without a teacher, of the first seed."""
        return self.series.pairs[0][0]

    @property
    def student(self) -> Run:
        """The student of the first seed."""
        return self.series.pairs[0][1]

    @property
    def outcome(self) -> DistillationResult:
        """The scores, by seed and over all, and the differences with their intervals. Raises UsageError where a run's
        test answers were deleted."""
        found = distillation_result(self.series)
        if found is None:
            raise UsageError(f"The test answers of {self.teacher.id} or of every student are missing. Write them anew: "
                             "python -m kd evaluate RUN.")
        return found

    @property
    def summary(self) -> str:
        """The result in one sentence."""
        return sentence(self.outcome)

    @property
    def results(self) -> pd.DataFrame:
        """A row each for teacher, control and student.

        accuracy, macro_f1: of the test images, 0..1, mean over the seeds, with `_sd`, the standard deviation over
        them (missing for one seed), and, of the accuracy, `_low` and `_high`, a 95 % bootstrap interval over test
        images. nll: test cross-entropy in nats; ece: expected calibration error, 0..1; both are better when lower.
        minus_control, minus_teacher: the student's accuracy less theirs, with such intervals of the paired difference;
        nll_minus_control, ece_minus_control: likewise. Patients are drawn whole where they are known; with fewer than
        five there is no interval. flops: of one forward pass, a multiply-add counting 2. train_seconds: mean over the
        seeds.
        """
        outcome = self.outcome
        finished = [pair for pair in self.series.pairs if pair[1].spec.seed in outcome.seeds]
        runs = ([self.teacher], *([pair[number] for pair in finished] for number in (0, 1)))
        rows = {arm.role: _row(arm, arm_runs) for arm, arm_runs in zip(outcome.arms, runs, strict=True)}
        rows["student"] |= (_difference("minus_control", outcome.vs_control)
                            | _difference("minus_teacher", outcome.vs_teacher)
                            | _difference("nll_minus_control", outcome.nll_vs_control)
                            | _difference("ece_minus_control", outcome.ece_vs_control))
        table = pd.DataFrame.from_dict(rows, orient="index")
        return table[[*(name for name in table if name not in _LAST), *_LAST]]

    def report(self, file: str | PathLike[str]) -> Path:
        """Write the distillation as one HTML file to read, print and pass on, of the first seed's runs with the scores
        of all; returns its path."""
        from kd.reporting.build import build

        return build(self.store, self.student, str(Path(file)))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on these results: what a method loses on two classes, models no better than the majority class, soft
        targets without content, a start far above chance, masks that explain nothing; and the audit's verdict.
        """
        classes = len((self.teacher.summary or {})["classes"])
        return tuple(filter(None, (methods.check(self.student.spec.method, classes), *series_warnings(self.series),
                                   self.audit)))

    @property
    def audit(self) -> str:
        """The verdict of the data set's audit in one sentence: whether these scores can be believed, and the number
        that a model must beat. Empty before `python -m kd audit` or the data page has computed it."""
        return verdict_of(self.student)

    @property
    def data(self) -> Dataset:
        """The data set at the working size, with its three splits: `run.data.test.images[0]`."""
        spec = self.student.spec
        return datasets.open_dataset(spec.data, spec.image_size, self.store.paths, fingerprint=spec.data_fingerprint)

    def compare(self, image: ImageLike, target: int | str | None = None, explainer: str = "grad-cam",
                stage: StageChoice = DEFAULT_STAGE, seed: int | None = None) -> Comparison:
        """Teacher, control and student on one image: their maps, probabilities and times, and whether they look at
        the same places (`answer.text`); shows itself in a notebook.

        image: a path, a PIL image or an array. target: a class's number or name, by default the teacher's prediction.
        stage: of every model, from 0, or from the end where negative; by default the explainer's own.
        seed: which student, by default the first. Raises UsageError.
        """
        students = {student.spec.seed: student for _, student in self.series.pairs}
        chosen = self.student if seed is None else students.get(seed)
        if chosen is None:
            raise UsageError(f"There is no student of seed {seed}: seeds are {', '.join(map(str, students))}.")
        found = compare_runs(self.store, chosen, as_image(image, chosen.spec.image_size), target, explainer=explainer,
                             stage=stage)
        return replace(answered(self.store, found, stage), original=as_original(image))

    def __repr__(self) -> str:
        return f"<Distillation of {self.teacher.spec.model_label} into {self.student.spec.model_label}: {self.summary}>"

    def _repr_html_(self) -> str:
        return "".join((self.results.T.to_html(), *(f"<p>{escape(text)}</p>" for text in (self.summary, *self.notes))))


_LAST = ["parameters", "flops", "train_seconds"]


def _row(arm: ArmResult, runs: list[Run]) -> dict[str, Any]:
    level = accuracy_ci([found for run in runs if (found := test_predictions(run))])
    return {"model": arm.run.spec.model_label, "run": arm.run.id, "seeds": arm.accuracy.n,
            **_spread("accuracy", arm.accuracy), "accuracy_low": level.low, "accuracy_high": level.high,
            **_spread("macro_f1", arm.macro_f1), **_spread("nll", arm.nll), **_spread("ece", arm.ece),
            "parameters": arm.parameters, "flops": arm.flops,
            "train_seconds": arm.seconds.mean}


def _spread(name: str, scores: SeedScores) -> dict[str, float | None]:
    return {name: scores.mean, f"{name}_sd": scores.sd}


def _difference(name: str, found: PairedDifference) -> dict[str, float | None]:
    """In the unit of the scores beside it: shares, or nats."""
    values = {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return {key: None if value is None else value / found.measure.scale for key, value in values.items()}


def distill(data: str | PathLike[str] | Arrays | Dataset | Mapping[str, Any] | Any, *,
            root: str | PathLike[str] | None = None, progress: bool = True, preset: str = SUGGESTED,
            **settings: Any) -> Experiment:
    """Train a teacher, a student that learns from it, and the control, the same student without a teacher.

    data: the name of a drawn data set (phantom-brain), the path of a folder, zip or .npz; or `kd.Arrays`, a pair
    (images, labels), a torch `Dataset`, or a mapping of train, val and test to such. root: the folder whose
    checkpoints/ and data/ hold runs and data; by default what KD_LENS_ROOT names, else the checkout that kd is imported
    from, else the working directory. progress: whether a progress bar is drawn. preset: a name in
    `kd.experiments.presets.PRESETS`, whose settings apply where others are not given; `suggested` for the one that fits
    data set and teacher, `none` for no preset. settings: by their own names,
    those of the method too; `kd.settings(method)` lists them. Without image_size the working size is what the forecast
    allows, up to 224 px, and the student's at most 96 px; with it, student_size is the same unless it is given.

    The same settings are the same runs: what has finished is used again, and after Ctrl-C the same call goes on from
    the last finished epoch. Raises UsageError for what the caller can mend, before any training where it can be known.
    """
    store = Store(Paths(Path(root).resolve()) if root is not None else default_paths())
    reference = _reference(data, store.paths)
    _request(settings)  # what is wrong in it is said before a preset is chosen
    found = datasets.inspect(reference, store.paths)
    settings = with_preset(preset, {name: _plain(value) for name, value in settings.items()}, found, store)
    request = replace(_request(settings), data=reference)
    request, _ = with_sizes(request, settings, store, found)
    require_possible(plan_specs(request, store, found), found)
    series = plan_runs(request, store, found)
    _train(series, store, progress)
    return Experiment(store, series)


def _train(series: Replicates, store: Store, shown: bool) -> None:
    """Raises UsageError when a run fails."""
    left = [run for run in series.runs if run.status != FINISHED]
    bar = ProgressBar(series.runs, shown and bool(left))
    try:
        for run in left:
            with bar.following(run, _title(run, series)):
                train_now(run, store)
    except KeyboardInterrupt as stop:
        stop.add_note("Stopped. The same call goes on from the last finished epoch.")
        raise
    finally:
        bar.close()


def _title(run: Run, series: Replicates) -> str:
    """What the run is in its series, for the progress bar."""
    if run in (series.teacher, *series.folds):
        return teacher_label(run.spec)
    return f"{STUDENT if run.spec.teacher else CONTROL} {run.spec.model_label}, seed {run.spec.seed}"


def _request(settings: Mapping[str, Any]) -> DistillSpec:
    """The settings as a request, the method's own apart. Raises UsageError for what is unknown or out of range."""
    known = [item.name for item in fields(DistillSpec) if item.name not in _TAKEN]
    values = {name: _plain(value) for name, value in settings.items()}
    method = values.get("method", DistillSpec.method)
    own = METHODS[method].info.hyperparameters
    for name in values:
        if name not in known and name not in own:
            raise unknown(f"setting of a distillation by {method!r}", name, [*own, *known])
    return DistillSpec(**{name: value for name, value in values.items() if name in known},
                   method_args={name: value for name, value in values.items() if name in own})


def _plain(value: Any) -> Any:
    """Numpy's numbers, paths and runs as the plain values that settings are."""
    if isinstance(value, Run):
        return value.id
    if isinstance(value, PathLike):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def _reference(data: Any, paths: Paths) -> str:
    """What the data is opened by; arrays are written below `paths.data` first."""
    if isinstance(data, Dataset):
        return data.reference
    if isinstance(data, str | PathLike):
        return str(data)
    return (data if isinstance(data, Arrays) else Arrays.of(data)).save(paths)


def settings(method: str = "kd") -> pd.DataFrame:
    """What `kd.distill` can be given with this method: default, range and meaning of each setting, by name."""
    own = {name: {"default": knob.default, "range": f"{knob.low:g} to {knob.high:g}", "meaning": knob.help}
           for name, knob in METHODS[method].info.hyperparameters.items()}
    special = {"method": method, **dict.fromkeys(CHOSEN, "by the forecast")}
    rest = {item.name: {"default": special.get(item.name, item.default), "range": _range(item.metadata),
                        "meaning": item.metadata["help"]} for item in fields(DistillSpec) if item.name not in _TAKEN}
    return pd.DataFrame.from_dict({**own, **rest}, orient="index")


def _range(facts: Mapping[str, Any]) -> str:
    if facts["choices"]:
        return ", ".join(facts["choices"])
    return "" if facts["low"] is None else f"{facts['low']:g} to {facts['high']:g}"


def _signature() -> inspect.Signature:
    """`distill`'s, with every setting by name: what `help` and completion show."""
    stated = inspect.signature(distill)
    *first, _ = stated.parameters.values()
    named = [inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default, annotation=item.type)
             for item in fields(DistillSpec) if item.name not in _TAKEN]
    rest = inspect.Parameter("method_settings", inspect.Parameter.VAR_KEYWORD, annotation=float)
    return stated.replace(parameters=[*first, *named, rest])


distill.__signature__ = _signature()  # type: ignore[attr-defined]
