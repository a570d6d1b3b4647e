"""The report of an audit, and where it is kept: beside the decoded images, by the set's fingerprint."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.audit.findings import FAULT, IN_SHORT, WARNING, Finding, percent
from kd.paths import Paths
from kd.store.files import read_npz, write_bytes, write_json
from kd.store.task_folder import TaskFolder

VERSION = 2  # of the report: one of another is computed again
YES, CARE, NO = BELIEVABLE = ("yes", "with care", "no")
FILE, _ANSWERS = "audit.json", "yardsticks.npz"


@dataclass(frozen=True)
class Measured:
    """A yardstick as it is kept: see `kd.audit.yardsticks.Yardstick`. accuracy, balanced: mean, low, high and n."""

    key: str
    title: str
    accuracy: dict[str, Any]
    balanced: dict[str, Any]

    @property
    def in_words(self) -> str:
        """`76.6 % (the nearest neighbour …, 95 % interval 71.9–81.2 %)`."""
        low, high = self.accuracy["low"], self.accuracy["high"]
        interval = "" if low is None or high is None else f", 95 % interval {100 * low:.1f}–{percent(high)}"
        return f"{percent(self.accuracy['mean'])} ({self.title}{interval})"


@dataclass(frozen=True)
class AuditReport:
    """What an audit found. believable: one of BELIEVABLE. beat: key of the yardstick that a model must beat. pairs:
    first, second (names), kind, distance, detail and mirrored of pairs of copies and look-alikes, those across parts
    first. suspects: image (name), label, likely (class names), given and probability. clusters: lists of the names of
    images that are copies of one another. size: working size in pixels that the images were looked at."""

    reference: str
    fingerprint: str
    name: str
    images: int
    size: int
    classes: tuple[str, ...]
    believable: str
    beat: str
    findings: tuple[Finding, ...]
    yardsticks: tuple[Measured, ...]
    pairs: tuple[dict[str, Any], ...] = ()
    suspects: tuple[dict[str, Any], ...] = ()
    clusters: tuple[tuple[str, ...], ...] = ()
    libraries: dict[str, str] = field(default_factory=dict)
    version: int = VERSION

    @property
    def to_beat(self) -> Measured:
        return next(one for one in self.yardsticks if one.key == self.beat)

    @property
    def verdict(self) -> str:
        """One sentence: whether scores on this set can be believed, and which number a model must beat."""
        why = [one.clause for one in self.findings if one.level in (FAULT, WARNING)]
        said = {YES: "no leak and no shortcut was found, so scores on this data set can be believed",
                CARE: "scores on this data set can be believed only with care",
                NO: "scores on this data set cannot be believed"}[self.believable]
        rest = len(why) - 1
        more = f", and {rest} more finding{'s' if rest > 1 else ''}" if rest > 0 else ""
        reason = f": {why[0]}{more}" if why and self.believable != YES else ""
        return f"{said[0].upper()}{said[1:]}{reason}; a model must beat {self.to_beat.in_words}."

    @property
    def brief(self) -> str:
        """The verdict without numbers: `Audit: scores on this data set cannot be believed (patients in both …).`"""
        said = {YES: "can be believed", CARE: "can be believed only with care", NO: "cannot be believed"}
        why = dict.fromkeys(IN_SHORT[one.key] for one in self.findings if one.level in (FAULT, WARNING))
        reasons = f" ({', '.join(why)})" if why else ""
        return f"Audit: scores on this data set {said[self.believable]}{reasons}."

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict,
                "findings": [{**asdict(one), "text": one.text} for one in self.findings]}


def as_text(report: AuditReport) -> str:
    """The report in lines: the verdict, the findings, the yardsticks."""
    findings = [f"{one.level:8}{one.text}" for one in report.findings]
    beside = [f"{percent(one.accuracy['mean']):>8}  balanced {percent(one.balanced['mean']):>7}  {one.title}"
              for one in report.yardsticks]
    return "\n".join([report.verdict, "", *(findings or ["Nothing was found."]), "",
                      "Test accuracy of simple rules:", *beside])


def believable(findings: Sequence[Finding]) -> str:
    """One of BELIEVABLE, by the worst finding."""
    levels = {one.level for one in findings}
    return NO if FAULT in levels else CARE if WARNING in levels else YES


def folder(fingerprint: str, paths: Paths) -> Path:
    """Where the audit of a set of this content is kept."""
    return paths.cache / "audits" / fingerprint


def owner(fingerprint: str, title: str, paths: Paths) -> TaskFolder:
    """Whose task the audit is, on the queue."""
    return TaskFolder(folder(fingerprint, paths), title)


def save(report: AuditReport, answers: dict[str, NDArray[Any]], paths: Paths) -> None:
    """Keep a report. answers: names and labels of the test images, and the yardsticks' answers by key."""
    place = folder(report.fingerprint, paths)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **answers)  # type: ignore[arg-type]  # its flags are no arrays
    write_bytes(place / _ANSWERS, buffer.getvalue())
    write_json(place / FILE, report.to_json())


def load(fingerprint: str, paths: Paths) -> AuditReport | None:
    """The report on a set of this content; None where there is none, or of another version."""
    try:
        stored = json.loads((folder(fingerprint, paths) / FILE).read_text())
        if stored.pop("version") != VERSION:
            return None
        stored.pop("verdict")
        findings = tuple(Finding(one["key"], one["level"], one["clause"], one["advice"], tuple(one["images"]))
                         for one in stored.pop("findings"))
        yardsticks = tuple(Measured(**one) for one in stored.pop("yardsticks"))
        stored |= {key: tuple(stored[key]) for key in ("classes", "pairs", "suspects")}
        stored["clusters"] = tuple(map(tuple, stored["clusters"]))
        return AuditReport(**stored, findings=findings, yardsticks=yardsticks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def answers(fingerprint: str, paths: Paths) -> dict[str, NDArray[Any]] | None:
    """The yardsticks' answers on the test images, as `save` was given them."""
    return read_npz(folder(fingerprint, paths) / _ANSWERS)
