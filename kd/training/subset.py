"""The training images whose labels a run uses."""

from dataclasses import replace

import numpy as np

from kd.datasets import take_fraction
from kd.datasets.base import UNLABELLED, Dataset
from kd.datasets.splits import folds
from kd.spec import RunSpec
from kd.store.row_files import Index


def labelled_images(spec: RunSpec, data: Dataset) -> Index:
    """Indices [n] into the training split, ascending, of the images whose labels a run uses: its share of them, without
    the fold that is left out. Raises UsageError as `folds` does."""
    chosen = np.asarray(take_fraction(data.train, spec.data_fraction, len(data.classes)))
    return chosen[fold_of_images(spec, data)[chosen] != spec.fold] if spec.fold else chosen


def fold_of_images(spec: RunSpec, data: Dataset) -> Index:
    """Fold [N], from 1, of every training image, drawn from the spec's seed. spec: of a fold teacher. Raises UsageError
    as `folds` does.

    Images of a folder without labels, which follow the others in the split (`kd.training.training_images`), are in the
    folds in turn: no network was trained on them, so any may answer.
    """
    train = data.train
    own = int((train.labels != UNLABELLED).sum())
    first = replace(train, labels=train.labels[:own], names=train.names[:own],
                    groups=train.groups and train.groups[:own])
    found = folds(first, spec.folds, spec.seed)
    return np.concatenate([found, np.arange(len(train) - own) % spec.folds + 1])
