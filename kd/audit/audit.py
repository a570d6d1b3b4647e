"""The audit of a data set: one pass over its images, then the checks, then a report that is kept."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from kd import datasets
from kd.audit import findings, labels, report
from kd.audit.copies import Pair, Reader, clusters, find_pairs
from kd.audit.findings import LEVELS, LISTED, Finding
from kd.audit.labels import Suspect
from kd.audit.measure import Measurements, measure, without_bars
from kd.audit.report import AuditReport, Measured
from kd.audit.yardsticks import Yardstick, best, yardsticks
from kd.datasets import DataRef, Dataset, FileReader
from kd.paths import Paths
from kd.progress import PhaseProgress, ProgressCallback, no_progress

MOST, LEAST, DRAWN = 224, 28, 96  # pixels: the size that images are looked at, and that of a drawn set
LIBRARIES = ("ImageHash", "scikit-learn", "scipy", "numpy", "pillow")


def audit_size(data: DataRef) -> int:
    """The size that a set's images are looked at: their own, at most 224 pixels; it depends on the content alone."""
    return min(max(data.side, LEAST), MOST) if data.side else DRAWN


def audit(reference: str, paths: Paths, progress: ProgressCallback = no_progress,
          should_stop: Callable[[], bool] = lambda: False) -> AuditReport:
    """Audit a data set and keep the report by its fingerprint. Raises UsageError for a set that cannot be opened, and
    Stopped."""
    phases = PhaseProgress(progress, should_stop, 100)
    with phases.phase("Reading images", 30):
        data = datasets.open_dataset(reference, audit_size(datasets.inspect(reference, paths)), paths,
                                     lambda _, share: phases(share))
    return audit_opened(data, datasets.files(data, paths), paths, phases)


def audit_opened(data: Dataset, files: FileReader | None, paths: Paths, phases: PhaseProgress) -> AuditReport:
    """The audit of an opened set, which is kept; phases: with a weight of 70 left."""
    with phases.phase("Measuring images", 25):
        measured = measure(data, files, phases)
    with phases.phase("Comparing images", 10):
        pairs, more = find_pairs(measured, _reader(data, measured), phases)
    units = _units(measured, pairs)
    with threadpool_limits(1, user_api="blas"):  # products too small for threads, which would spin beside a training
        with phases.phase("Computing yardsticks", 20):
            beside = yardsticks(measured, units, phases)
        with phases.phase("Checking labels", 15):
            doubted = labels.suspects(measured, units, phases)
    found = _report(data, measured, pairs, more, beside, doubted)
    report.save(found, _answers(measured, beside), paths)
    return found


def _reader(data: Dataset, measured: Measurements) -> Reader:
    """Reads an image by its number, without the bars around it."""
    starts = np.cumsum([0, *(len(split) for split in data.splits.values())])
    splits = list(data.splits.values())

    def read(number: int) -> NDArray[np.uint8]:
        part = int(np.searchsorted(starts, number, side="right")) - 1
        width, height = measured.shapes[number].tolist()
        return without_bars(splits[part].images[number - starts[part]], (width, height))

    return read


def _units(measured: Measurements, pairs: Sequence[Pair]) -> NDArray[np.int64]:
    """What belongs together [N]: patients where they are known, else clusters of copies."""
    if measured.groups is not None:
        return np.unique(np.asarray(measured.groups), return_inverse=True)[1]
    return clusters(pairs, len(measured))


def _report(data: Dataset, measured: Measurements, pairs: Sequence[Pair], more: bool, beside: Sequence[Yardstick],
            doubted: Sequence[Suspect]) -> AuditReport:
    drawn = datasets.is_drawn(data.reference)
    found: list[Finding] = [
        *findings.of_patients(measured, drawn), *findings.of_copies(measured, pairs, more),
        *findings.of_yardsticks(beside, len(data.classes)), *findings.of_marks(measured, data.classes),
        *findings.of_images(data, measured), *findings.of_counts(data), *findings.of_labels(measured, doubted)]
    found.sort(key=lambda one: LEVELS.index(one.level))
    return AuditReport(
        data.reference, data.fingerprint, data.name, len(measured), data.size, data.classes, report.believable(found),
        best(beside).key, tuple(found),
        tuple(Measured(one.key, one.title, one.accuracy.to_json(), one.balanced.to_json()) for one in beside),
        _pair_rows(measured, pairs), _suspect_rows(measured, doubted, data.classes), _cluster_rows(measured, pairs),
        {name: version(name) for name in LIBRARIES})


def _pair_rows(measured: Measurements, pairs: Sequence[Pair]) -> tuple[dict[str, Any], ...]:
    parts, names = measured.parts, measured.names
    shown = sorted(pairs, key=lambda pair: (not pair.proven, parts[pair.first] == parts[pair.second], -pair.detail))
    return tuple({"first": names[pair.first], "second": names[pair.second],
                  "parts": [parts[pair.first], parts[pair.second]], "kind": pair.kind, "distance": pair.distance,
                  "detail": round(pair.detail, 4), "mirrored": pair.mirrored} for pair in shown[:LISTED])


def _suspect_rows(measured: Measurements, doubted: Sequence[Suspect],
                  classes: Sequence[str]) -> tuple[dict[str, Any], ...]:
    return tuple({"image": measured.names[one.image], "part": measured.parts[one.image],
                  "label": classes[measured.labels[one.image]], "given": round(one.given, 6),
                  "likely": classes[one.likely], "probability": round(one.probability, 6)}
                 for one in doubted[:LISTED])


def _cluster_rows(measured: Measurements, pairs: Sequence[Pair]) -> tuple[tuple[str, ...], ...]:
    """Names of the images of each cluster of two or more."""
    number = clusters(pairs, len(measured))
    order = np.argsort(number, kind="stable")
    lots = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    return tuple(tuple(measured.names[row] for row in lot) for lot in lots if len(lot) > 1)


def _answers(measured: Measurements, beside: Sequence[Yardstick]) -> dict[str, NDArray[Any]]:
    test = measured.rows("test")
    return {"names": np.array([measured.names[row] for row in test]), "labels": measured.labels[test],
            **{one.key: one.predicted for one in beside if one.predicted is not None}}
