"""Training images of a run: labelled ones, and others that a student learns from by its teacher's outputs alone."""

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kd.datasets import Dataset
from kd.datasets.base import UNLABELLED, JoinedImages, Split
from kd.datasets.hashing import combine
from kd.datasets.tensors import AT_ONCE, read_images
from kd.datasets.unlabelled import open_unlabelled
from kd.errors import UsageError
from kd.paths import Paths
from kd.progress import ProgressCallback, no_progress
from kd.spec import NONE, REST, RunSpec
from kd.training.batches import NO_IMAGES
from kd.training.subset import labelled_images

Index = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingImages:
    """Training images of a run.

    split: all that rows are numbered by: the data set's train split, and behind it the folder's images, whose labels
    are UNLABELLED. labelled, unlabelled: indices of the images whose labels are used, and of those used without.
    fingerprint: digest of the content. notes: number of images of the folder that are left out, by reason.
    """

    split: Split
    labelled: Index
    unlabelled: Index
    fingerprint: str
    notes: dict[str, int] = field(default_factory=dict)

    def within(self, data: Dataset) -> Dataset:
        """The data set with these as its train split."""
        return replace(data, train=self.split, fingerprint=self.fingerprint)

    @property
    def counts(self) -> dict[str, Any]:
        """Plain values: numbers of labelled and unlabelled images, and of those left out."""
        return {"labelled": len(self.labelled), "unlabelled": len(self.unlabelled), **self.notes}


def training_images(spec: RunSpec, data: Dataset, paths: Paths,
                    progress: ProgressCallback = no_progress) -> TrainingImages:
    """The images that a run trains on. Raises UsageError for a folder that is not there or has changed."""
    labelled = labelled_images(spec, data)
    rest = np.setdiff1d(np.arange(len(data.train)), labelled) if spec.unlabelled == REST else NO_IMAGES
    if spec.unlabelled in (NONE, REST):
        return TrainingImages(data.train, labelled, rest, data.fingerprint)
    others = open_unlabelled(spec.unlabelled, spec.unlabelled_fingerprint, spec.image_size, paths, progress)
    kept, notes = _without_tested(others, data)
    return TrainingImages(_joined(data.train, others), labelled, len(data.train) + kept,
                          training_fingerprint(data.fingerprint, spec.unlabelled_fingerprint), notes)


def training_fingerprint(data: str, unlabelled: str) -> str:
    """Digest of a run's training images. data, unlabelled: fingerprints of data set and folder; that of the folder
    empty where there is none."""
    return combine({"data": data, "unlabelled": unlabelled}) if unlabelled else data


def _joined(train: Split, others: Split) -> Split:
    images = cast(NDArray[np.uint8], JoinedImages(train.images, others.images))  # has its shape; read by read_images
    names = tuple(f"unlabelled {name}" for name in others.names)
    return Split(images, np.concatenate([train.labels, np.full(len(others), UNLABELLED)]), train.names + names,
                 groups=train.groups and train.groups + names)


def _without_tested(others: Split, data: Dataset) -> tuple[Index, dict[str, int]]:
    """Indices of the folder's images that may be trained on, and the numbers of the others: copies of images of
    validation and test, and images of patients who are there."""
    tested = {digest for part in (data.val, data.test) for digest in _digests(part)}
    patients = {patient for part in (data.val, data.test) for patient in _patients(part)} - {""}
    copies = np.array([digest in tested for digest in _digests(others)], np.bool_)
    known = np.array([patient in patients for patient in _patients(others)], np.bool_)
    if (copies | known).all():
        raise UsageError("Every unlabelled image is a copy of one of validation or test, or of a patient there: "
                         "nothing is left to learn from. Give other images.")
    notes = {"tested_copies": int(copies.sum()), "tested_patients": int((known & ~copies).sum())}
    return np.flatnonzero(~(copies | known)), {reason: count for reason, count in notes.items() if count}


def _patients(split: Split) -> list[str]:
    """Patient of each image; empty where not known."""
    groups = split.groups or ("",) * len(split)
    return ["" if patient == f"only {name}" else patient for patient, name in zip(groups, split.names, strict=True)]


def _digests(split: Split) -> list[bytes]:
    """Digests of the decoded pixels of each image: equal also for the same pixels in another file format."""
    return [blake2b(image.data, digest_size=16).digest()
            for start in range(0, len(split), AT_ONCE)
            for image in read_images(split.images, np.arange(start, min(start + AT_ONCE, len(split))))]
