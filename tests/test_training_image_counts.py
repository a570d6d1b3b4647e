"""Numbers of training images against the batches that a run shows."""

import numpy as np
import pytest
from small import spec

from kd.datasets.base import Split
from kd.training.batches import TrainBatches
from kd.training.image_counts import ImageCounts
from kd.training.teacher.rows import required_rows


@pytest.mark.parametrize(("settings", "others"), [
    ({}, 0), ({"data_fraction": 0.5}, 0), ({"data_fraction": 0.5, "unlabelled": "rest"}, 0),
    ({"data_fraction": 0.125, "unlabelled": "rest", "epochs": 16}, 0), ({"unlabelled": "/ward"}, 120),
    ({"unlabelled": "/ward", "data_fraction": 0.5, "views": 0}, 8)])
def test_the_forecast_counts_what_is_shown(settings, others):
    about = spec(epochs=settings.pop("epochs", 4), batch_size=8, **settings)
    counts = ImageCounts.of(about, 80, others)
    labelled = np.arange(int(counts.labelled))
    unlabelled = np.arange(80 - int(counts.unlabelled), 80) if about.unlabelled == "rest" else 80 + np.arange(others)
    split = Split(np.zeros((80 + others, 4, 4, 3), np.uint8), np.zeros(80 + others, np.int64), ())
    batches = TrainBatches(split, labelled, about.batch_size, 0, about.views, True, unlabelled=unlabelled)
    assert counts.shown(about) == about.epochs * len(batches) * batches.batch_size
    shown = batches.shown(about.epochs)
    assert counts.rows(about) == sum(map(len, required_rows(shown, about.views, counts.split)))
    assert counts.split == len(split)
