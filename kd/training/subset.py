"""The training images that a run is trained on."""

import numpy as np

from kd.datasets import take_fraction
from kd.datasets.base import Dataset
from kd.datasets.splits import folds
from kd.spec import RunSpec
from kd.store.row_files import Index


def training_images(spec: RunSpec, data: Dataset) -> Index:
    """Indices [n] into the training split, ascending: the run's share of it, without the fold that is left out. Raises
    UsageError as `folds` does."""
    chosen = np.asarray(take_fraction(data.train, spec.data_fraction, len(data.classes)))
    return chosen[fold_of_images(spec, data)[chosen] != spec.fold] if spec.fold else chosen


def fold_of_images(spec: RunSpec, data: Dataset) -> Index:
    """Fold [N], from 1, of every training image, drawn from the spec's seed. spec: of a fold teacher. Raises UsageError
    as `folds` does."""
    return folds(data.train, spec.folds, spec.seed)
