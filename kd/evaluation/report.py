"""Classification report of teacher, control and student on the test split: scores, calibration, confusions, cases.

Computed from the stored predictions of the runs, without a model and without torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.errors import unknown
from kd.metrics import classification
from kd.metrics.agreement import class_agreement
from kd.metrics.bootstrap import bootstrap_ci, error_bars
from kd.metrics.classification import known_values
from kd.store.predictions import BOTH_WRONG, STUDENT_WRONG, TEACHER_WRONG, Predictions, load, select_cases
from kd.store.runs import Run

RESAMPLES = 1000
SURE, ALIKE = "most confident errors of the student", "shared errors"
KINDS = (STUDENT_WRONG, SURE, ALIKE, BOTH_WRONG, TEACHER_WRONG)
SHARE, NUMBER, NATS, COUNT, SECONDS, BYTES, TIMES = UNITS = (
    "share", "number", "nats", "count", "seconds", "bytes", "times")

Values = NDArray[np.float64]
Table = NDArray[np.int64]


@dataclass(frozen=True)
class MetricRow:
    """One score with its interval and baselines; None where there is none.

    low, high: 95 % confidence interval. chance: the baseline. excess: above the baseline, positive is better, with its
    own interval. images: their number. unit: one of UNITS. of: an explainer's name, or empty. centre: score of a
    centred Gaussian map.
    """

    section: str
    measure: str
    role: str
    value: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    excess: float | None = None
    excess_low: float | None = None
    excess_high: float | None = None
    images: int | None = None
    unit: str = SHARE
    of: str = ""
    centre: float | None = None

    @property
    def reach(self) -> tuple[float, float]:
        """Lengths of the error bars below and above the value; 0 where there is no interval."""
        return (0.0, 0.0) if self.value is None else error_bars(self.value, self.low, self.high)

    @property
    def excess_reach(self) -> tuple[float, float]:
        """As `reach`, of the excess."""
        return replace(self, value=self.excess, low=self.excess_low, high=self.excess_high).reach


@dataclass(frozen=True, eq=False)
class ModelReport:
    """Report on one model on the test split. probabilities: [N, K]. table: confusion matrix [K, K]."""

    role: str
    run: Run
    classes: tuple[str, ...]
    answers: Predictions
    probabilities: Values
    table: Table
    reliability: classification.Reliability
    rows: tuple[MetricRow, ...]

    @property
    def images(self) -> int:
        return len(self.answers.labels)

    @property
    def confidence(self) -> Values:
        """Probability of the predicted class [N]."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def shares(self) -> Values:
        """Confusion matrix as shares of each true class [K, K]."""
        return np.asarray(self.table / np.maximum(self.table.sum(axis=1, keepdims=True), 1))

    @property
    def recall(self) -> list[MetricRow]:
        """Recall of each class, in the classes' order; the measure is the class."""
        return [row for row in self.rows if row.section == "recall"]


def model_report(role: str, run: Run) -> ModelReport | None:
    """Report on a run, or None before it was tested."""
    found, summary = load(run), run.summary
    if found is None or summary is None:
        return None
    classes = tuple(summary["classes"])
    table = classification.confusion(found.labels, found.predicted, len(classes))
    probabilities = classification.softmax(found.logits)
    bins = classification.reliability(probabilities, found.labels)
    rows = (*_overall(role, table, classification.auroc(probabilities, found.labels)), *_calibration(role, found),
            *_cost_rows(role, summary), *_recalls(role, table, classes))
    return ModelReport(role, run, classes, found, probabilities, table, bins, rows)


def _overall(role: str, table: Table, auroc: float) -> list[MetricRow]:
    number = int(table.sum())
    majority = _majority(table)
    spread = {"accuracy": wilson(int(np.trace(table)), number),
              "macro-F1": _between(np.array([classification.macro_f1(one) for one in _redrawn(table)]))}
    rows = [MetricRow("classification", name, role, known_values(measure(table)), *spread[name],
                      known_values(measure(majority)), images=number)
            for name, measure in (("accuracy", classification.accuracy), ("macro-F1", classification.macro_f1))]
    return [*rows,
            MetricRow("classification", "AUROC", role, known_values(auroc), chance=0.5, images=number, unit=NUMBER)]


def _calibration(role: str, found: Predictions) -> list[MetricRow]:
    """Mean cross-entropy, beside that of the classes' shares, and calibration error. The latter has no interval: its
    resamples are all too large, by more than their spread where a model is well calibrated."""
    nll = bootstrap_ci(classification.negative_log_likelihood(found.logits, found.labels), found.groups)
    ece = classification.reliability(classification.softmax(found.logits), found.labels).ece
    shares = np.bincount(found.labels) / max(len(found.labels), 1)
    chance = float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    return [MetricRow("classification", "NLL", role, nll.mean, nll.low, nll.high, chance, images=nll.n, unit=NATS),
            MetricRow("classification", "ECE", role, known_values(ece), images=len(found.labels))]


def _cost_rows(role: str, summary: Mapping[str, Any]) -> list[MetricRow]:
    return [MetricRow("price", "parameters", role, summary["parameters"], unit=COUNT),
            MetricRow("price", "FLOPs per image", role, summary["flops"], unit=COUNT)]


def _recalls(role: str, table: Table, classes: Sequence[str]) -> list[MetricRow]:
    recall, number = classification.recall_per_class(table), table.sum(axis=1)
    return [MetricRow("recall", name, role, known_values(recall[place]),
                      *wilson(int(table[place, place]), int(number[place])), chance=1 / len(classes),
                      images=int(number[place]))
            for place, name in enumerate(classes)]


def wilson(hits: int, number: int) -> tuple[float | None, float | None]:
    """95 % confidence interval of a share (Wilson 1927), which has a width also at 0 and 1."""
    if not number:
        return None, None
    share, z2 = hits / number, 1.96**2 / number
    middle = (share + z2 / 2) / (1 + z2)
    reach = (share * (1 - share) * z2 + z2**2 / 4) ** 0.5 / (1 + z2)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def _majority(table: Table) -> Table:
    """Confusion matrix of the majority-class baseline."""
    found = np.zeros_like(table)
    found[:, table.sum(axis=1).argmax()] = table.sum(axis=1)
    return found


def _redrawn(table: Table) -> Table:
    """Confusion matrices [R, K, K] of test images resampled with replacement (bootstrap, Efron 1979)."""
    number = int(table.sum())
    if not number:
        return np.zeros((RESAMPLES, *table.shape), np.int64)
    drawn = np.random.default_rng(0).multinomial(number, table.ravel() / number, size=RESAMPLES)
    return drawn.reshape(RESAMPLES, *table.shape)


def _between(values: Values) -> tuple[float | None, float | None]:
    """95 % percentile interval; None where all resamples are equal, as when all predictions are right."""
    finite = values[np.isfinite(values)]
    if not len(finite) or not np.ptp(finite):
        return None, None
    low, high = np.quantile(finite, (0.025, 0.975))
    return float(low), float(high)


def paired(first: ModelReport, second: ModelReport) -> bool:
    """Whether both were tested on the same images."""
    return first.answers.same_images(second.answers)


def agreement_rows(teacher: ModelReport, other: ModelReport) -> list[MetricRow]:
    """Agreement of two models' predictions, beside that expected of independent errors within each true class."""
    first, second = (np.log(np.maximum(one.probabilities, 1e-12)) for one in (teacher, other))
    found = class_agreement(first, second, teacher.answers.labels)
    same = known_values(_independent(teacher, other).sum() / max(teacher.images, 1))
    return [_alike(other.role, "same answer as the teacher", found["agreement"], same),
            _alike(other.role, "both wrong", found["both_wrong"], found["both_wrong_expected"]),
            _alike(other.role, "wrong in the same way", found["same_wrong"], found["same_wrong_expected"]),
            _alike(other.role, "divergence from the teacher's answers", found["kl"], None, NATS)]


def _alike(role: str, measure: str, one: Mapping[str, Any], chance: float | None, unit: str = SHARE) -> MetricRow:
    return MetricRow("answers", measure, role, one["mean"], one["low"], one["high"], chance, images=one["n"], unit=unit)


@dataclass(frozen=True)
class Confusion:
    """A shared error of two models. expected: its count if errors were independent within the true class."""

    truth: str
    answer: str
    count: int
    expected: float


@dataclass(frozen=True, eq=False)
class SharedErrors:
    """Shared errors of two models: counts and expected counts [K, K], true class by the wrong class of both."""

    classes: tuple[str, ...]
    counts: Table
    expected: Values

    @property
    def relative(self) -> Values:
        """Counts as shares of the largest [K, K]."""
        return np.asarray(self.counts / max(int(self.counts.max()), 1))

    def most(self, number: int = 3) -> list[Confusion]:
        """The most frequent shared errors, in descending order."""
        order = np.argsort(-self.counts, axis=None, kind="stable")[:number]
        return [Confusion(self.classes[row], self.classes[column], int(self.counts[row, column]),
                          float(self.expected[row, column]))
                for row, column in (divmod(int(place), len(self.classes)) for place in order)
                if self.counts[row, column]]


def shared_errors(first: ModelReport, second: ModelReport) -> SharedErrors:
    """Shared errors of two models on the same images."""
    truth, classes = first.answers.labels, len(first.classes)
    same = (first.answers.predicted == second.answers.predicted) & ~first.answers.right
    counts = classification.confusion(truth[same], first.answers.predicted[same], classes)
    expected = _independent(first, second)
    np.fill_diagonal(expected, 0.0)
    return SharedErrors(first.classes, counts, expected)


def _independent(first: ModelReport, second: ModelReport) -> Values:
    """Expected counts [K, K], true class by prediction, of equal predictions if errors were independent in each class.
    """
    return np.asarray(first.table * second.table / np.maximum(first.table.sum(axis=1, keepdims=True), 1))


@dataclass(frozen=True)
class ImageCase:
    """A test image: its index, name, true class, both predictions and their confidence (0..1)."""

    index: int
    name: str
    truth: str
    teacher: str
    student: str
    teacher_sure: float
    student_sure: float


def image_cases(kind: str, teacher: ModelReport, student: ModelReport, count: int = 12) -> tuple[list[ImageCase], int]:
    """Images of one of KINDS, by descending confidence of the student, and their total number.

    Raises UsageError for another kind.
    """
    if kind == SURE:
        numbers = np.flatnonzero(~student.answers.right)
    elif kind == ALIKE:
        numbers = np.flatnonzero(~student.answers.right & (teacher.answers.predicted == student.answers.predicted))
    elif kind in KINDS:
        numbers = select_cases(kind, teacher.answers, student.answers)
    else:
        raise unknown("kind of case", kind, KINDS)
    order = numbers[np.argsort(-student.confidence[numbers], kind="stable")]
    return [image_case(int(number), teacher, student) for number in order[:count]], len(order)


def image_case(number: int, teacher: ModelReport, student: ModelReport) -> ImageCase:
    """The case of one test image."""
    classes = teacher.classes
    return ImageCase(number, teacher.answers.names[number], classes[teacher.answers.labels[number]],
                     classes[teacher.answers.predicted[number]], classes[student.answers.predicted[number]],
                     float(teacher.confidence[number]), float(student.confidence[number]))


def records(rows: Sequence[MetricRow]) -> list[dict[str, Any]]:
    """The rows for a file: one dictionary each, all with the same keys."""
    return [asdict(row) for row in rows]
