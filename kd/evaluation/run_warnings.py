"""Warnings of a run: what speaks against its scores, its start or its soft targets. Read from disk, without torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from kd.audit.beside import beside_yardstick
from kd.metrics.bootstrap import GAP_SPAN, ConfidenceInterval, bootstrap_ci
from kd.metrics.mask_statistics import mask_warning
from kd.roles import ROLES
from kd.store.files import modified
from kd.store.groups import Replicates
from kd.store.predictions import FILE, Predictions, load
from kd.store.runs import Run

# Guessing costs ln K; twice that is an answer that gives the right class 1 / K², a confident one, and wrong. New
# classifiers start near ln K; one drawn too wide on pretrained weights started at 11 times ln K and lost 6 points.
START_LIMIT = 2.0
# Of ln K, at T = 1: for four classes a confidence of 99 % on every image, for two of 99.4 %. A teacher of 1.5 % changed
# its student's accuracy by nothing in trials; label smoothing of .1, which is no teacher, has 25 % for four classes.
TARGET_LIMIT = 0.05
# Events of a run, and entries of its summary.
START, TARGETS, WEIGHTS = "start_loss", "targets", "initial_weights"


@dataclass(frozen=True)
class RunWarning:
    """title: a few words, for tables. text: what was found, and the way out."""

    title: str
    text: str


def run_warnings(run: Run) -> tuple[RunWarning, ...]:
    """Warnings of a run so far, the gravest first; none in most."""
    summary = run.summary
    start, targets = _first_epoch(run, summary)
    masks = mask_warning(summary)
    found = (_majority(run) or _yardstick(run), _start(start), _targets(targets),
             RunWarning("masks explain nothing", masks) if masks else None)
    return tuple(one for one in found if one)


def _first_epoch(run: Run, summary: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the first epoch logged at its start and of its targets: a summary repeats it; an older version has neither.
    """
    return _entry(run, summary, START), _entry(run, summary, TARGETS)


def _entry(run: Run, summary: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    return (run.last_event(name) if summary is None else summary.get(name)) or {}


def first_epoch_line(run: Run) -> str:
    """What was taken of a weights file, the loss at the start and the entropy of the soft targets, in words; empty
    where nothing was logged."""
    start, targets = _first_epoch(run, run.summary)
    words = [*_entry(run, run.summary, WEIGHTS).get("notes", ())]
    words += [f"First batch's cross-entropy: {start['loss']:.3g} (guessing: {start['chance']:.3g})."] if start else []
    if targets:
        softened = "" if targets["temperature"] == 1 else (
            f" {targets['entropy']:.3g} nats at T = {targets['temperature']:g} ({_percent(targets['share'])} of ln K),")
        right = "" if targets["right"] is None else f"; they name the label of {_percent(targets['right'])}"
        words.append(f"Soft targets over the first epoch: mean entropy{softened} {targets['entropy_t1']:.3g} nats at "
                     f"T = 1 ({_percent(targets['share_t1'])} of ln K){right} of {targets['images']:,} images.")
    return " ".join(words)


def beats_majority(run: Run) -> bool:
    """Whether a run's test accuracy is significantly above that of always answering the most frequent class. True
    also where nothing can be said: before the test, or with too few images for an interval."""
    found = above_majority(run)
    return found is None or exceeds_zero(found)


def exceeds_zero(difference: ConfidenceInterval) -> bool:
    """Whether a difference is significantly above 0, or has no interval to say so."""
    return difference.low is None or difference.low > 0


def above_majority(run: Run) -> ConfidenceInterval | None:
    """Test accuracy minus that of the majority-class baseline, -1..1, with its paired 95 % bootstrap interval, by
    patient where patients are known. None before the test."""
    return _above(run, modified(run.path / FILE))


@lru_cache(maxsize=4096)
def _above(run: Run, _changed: int) -> ConfidenceInterval | None:
    """Cached, because pages read every run's warnings at every poll."""
    found = load(run)
    return above_majority_of([found]) if found else None


def above_majority_of(models: Sequence[Predictions]) -> ConfidenceInterval:
    """As `above_majority`, of the mean accuracy of several models on the same test images."""
    labels = models[0].labels
    change = np.mean([one.right for one in models], axis=0) - (labels == _most_frequent(labels))
    return bootstrap_ci(change, models[0].groups, span=GAP_SPAN)


def _most_frequent(labels: np.ndarray) -> int:
    return int(np.bincount(labels).argmax())


def _majority(run: Run) -> RunWarning | None:
    if beats_majority(run):
        return None
    found, tested = above_majority(run), load(run)
    if found is None or tested is None:  # deleted meanwhile
        return None
    share = float((tested.labels == _most_frequent(tested.labels)).mean())
    low, mean, high = (f"{100 * (edge or 0.0):+.1f}".replace("-", "−") for edge in (found.low, found.mean, found.high))
    return RunWarning(
        "no better than the majority class",
        f"No better than the majority class: right on {_percent(tested.right.mean())} of {len(tested.labels):,} test "
        f"images, where always answering the most frequent class is right on {_percent(share)} (difference {mean} "
        f"points, {low} to {high}). Neither a student nor an explanation can rest on it. Train it for longer, change "
        "its learning rate, or test on more images.")


def _yardstick(run: Run) -> RunWarning | None:
    beside = beside_yardstick(run)
    if beside is None or beside.beaten:
        return None
    return RunWarning("no better than the yardstick", f"{beside.sentence} What the model learnt may be no more than "
                      "that. See the audit on the data page, or kd audit.")


def _start(found: Mapping[str, Any]) -> RunWarning | None:
    if not found or found["loss"] <= START_LIMIT * found["chance"]:
        return None
    return RunWarning(
        "starting loss far above chance",
        f"Training started at a loss of {found['loss']:.3g}, {found['loss'] / found['chance']:.3g} times that of "
        f"guessing ({found['chance']:.3g}): the starting weights answered confidently and wrongly, and the first steps "
        "may have undone what was pretrained. Check that the weights are of these classes and that normalisation is "
        "theirs, or start from others.")


def _targets(found: Mapping[str, Any]) -> RunWarning | None:
    if not found or found["share_t1"] >= TARGET_LIMIT:
        return None
    softened = "" if found["temperature"] == 1 else f" ({_percent(found['share'])} as softened by the method)"
    right = "" if found["right"] is None else f", and they name the label of {_percent(found['right'])} of the images"
    return RunWarning(
        "soft targets say only the label",
        f"The soft targets say little but the label: at T = 1 their entropy is {_percent(found['share_t1'])} of ln K"
        f"{softened}{right}. Such a teacher has answers for the images it learnt by heart; expect better probabilities "
        "of it rather than more right answers. Out-of-fold targets (soft_targets), images without labels (unlabelled) "
        "and stronger augmentation have more to say.")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def series_warnings(series: Replicates) -> tuple[str, ...]:
    """Warnings of a distillation's runs with the role of each, as sentences."""
    controls, students = zip(*series.pairs, strict=True)
    return warnings_by_role(dict(zip(ROLES, ((series.teacher,), controls, students), strict=True)))


def warnings_by_role(arms: Mapping[str, Iterable[Run]]) -> tuple[str, ...]:
    """`Student: …`, or with several seeds `Student, seed 0: …`. A warning that several seeds have is given in full for
    the first, with the others' numbers."""
    return tuple(text for role, runs in arms.items() for text in _of_arm(role.capitalize(), list(runs)))


def _of_arm(name: str, runs: Sequence[Run]) -> list[str]:
    by_title: dict[str, list[tuple[Run, str]]] = {}
    for run in runs:
        for warning in run_warnings(run):
            by_title.setdefault(warning.title, []).append((run, warning.text))
    return [_line(name, found, len(runs) > 1) for found in by_title.values()]


def _line(name: str, found: Sequence[tuple[Run, str]], several: bool) -> str:
    (first, text), *others = found
    seeds = ", ".join(str(run.spec.seed) for run, _ in others)
    more = f" The same holds for seed{'s' if len(others) > 1 else ''} {seeds}." if others else ""
    return f"{name}{f', seed {first.spec.seed}' if several else ''}: {text}{more}"
