"""Runs beside the audit of their data set: its verdict, and whether a run beats the best simple rule."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kd.audit import report
from kd.audit.findings import percent
from kd.audit.report import AuditReport, Measured
from kd.metrics.bootstrap import GAP_SPAN, ConfidenceInterval, bootstrap_ci
from kd.paths import Paths
from kd.store.files import modified
from kd.store.predictions import FILE, load
from kd.store.runs import Run


@dataclass(frozen=True)
class BesideYardstick:
    """A run beside the number to beat. difference: the run's test accuracy minus the rule's, -1..1, with its paired
    95 % bootstrap interval, by patient where patients are known."""

    accuracy: float
    rule: Measured
    difference: ConfidenceInterval

    @property
    def beaten(self) -> bool:
        """Whether the run is significantly better; True also with too few images for an interval."""
        return self.difference.low is None or self.difference.low > 0

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        points = [f"{100 * (edge or 0.0):+.1f}".replace("-", "−")
                  for edge in (self.difference.mean, self.difference.low, self.difference.high)]
        way = "beats" if self.beaten else "does not beat"
        return (f"A test accuracy of {percent(self.accuracy)} {way} the yardstick of this data set, "
                f"{self.rule.in_words}: difference {points[0]} points ({points[1]} to {points[2]}).")


def audit_of(run: Run) -> AuditReport | None:
    """The audit of the data set that a run learnt from, as it was then; None where there is none."""
    paths, content = _paths(run), run.spec.data_fingerprint
    return _kept(content, paths, _audited(content, paths)) if content else None


def _paths(run: Run) -> Paths:
    return Paths(run.path.parent.parent)


def _audited(fingerprint: str, paths: Paths) -> int:
    """When the audit was kept; 0 where there is none."""
    return modified(report.folder(fingerprint, paths) / report.FILE)


@lru_cache(maxsize=64)
def _kept(fingerprint: str, paths: Paths, _changed: int) -> AuditReport | None:
    """Cached, because pages ask of every run at every poll."""
    return report.load(fingerprint, paths)


def verdict_of(run: Run) -> str:
    """The verdict on a run's data set in one sentence; empty where it has not been audited."""
    found = audit_of(run)
    return found.verdict if found else ""


def brief_of(run: Run) -> str:
    """The verdict without numbers, for cards and tables; empty where the set has not been audited."""
    found = audit_of(run)
    return found.brief if found else ""


def beside_yardstick(run: Run) -> BesideYardstick | None:
    """A tested run beside the best simple rule on the same images; None before the test, without an audit, or where
    the run was tested on others."""
    found = audit_of(run)
    if found is None:
        return None
    return _beside(run, found.fingerprint, modified(run.path / FILE), _audited(found.fingerprint, _paths(run)))


@lru_cache(maxsize=4096)
def _beside(run: Run, fingerprint: str, _tested: int, _audited_at: int) -> BesideYardstick | None:
    """Cached like `_kept`."""
    found, tested = audit_of(run), load(run)
    answers = report.answers(fingerprint, _paths(run))
    if found is None or answers is None or tested is None or found.beat not in answers:
        return None
    if tested.names != tuple(map(str, answers["names"])):
        return None
    change = tested.right.astype(np.float64) - (answers[found.beat] == answers["labels"])
    return BesideYardstick(float(tested.right.mean()), found.to_beat,
                           bootstrap_ci(change, tested.groups, span=GAP_SPAN))
