"""Data efficiency: a prepared sweep over fractions of the training images, with settings that make it fair."""

from collections.abc import Mapping, Sequence
from typing import Any

from kd.errors import UsageError
from kd.experiments.plan import DistillSpec
from kd.experiments.sweep import Sweep
from kd.spec import NONE, REST

DATA_EFFICIENCY = "data-efficiency"
QUESTION = "Does a student need less data with a teacher? As MED-TEX claims (Nguyen-Duc 2022)."
FRACTIONS, METHODS = (0.1, 0.25, 0.5, 1.0), ("kd", "medtex")
UNLABELLED_IMAGES = (NONE, REST)  # what a teacher can use and labels cannot: where labels are few, that is much
# Three seeds show the seed variance; about equal steps keep a small share from being undertrained as well.
DEFAULTS: Mapping[str, Any] = {"seeds": 3, "equal_steps": 1.0}


def data_efficiency(settings: Mapping[str, Any], methods: Sequence[str] = METHODS,
                    fractions: Sequence[float] = FRACTIONS,
                    unlabelled: Sequence[str] = UNLABELLED_IMAGES) -> Sweep:
    """Each method, and the control that all share, with these shares of the training images, under one teacher.

    unlabelled: what students have besides, each a student of its own: none, rest (the other images without their
    labels), or the path of a folder. Methods that need labels have none.

    settings: fields of `DistillSpec` by name, over DEFAULTS. Smaller shares lie within larger ones, classes keep their
    proportions and patients stay whole (`kd.datasets.take_fraction`). Raises UsageError for fewer than two shares, and
    for what a sweep refuses.
    """
    if len(set(fractions)) < 2:
        raise UsageError(
            "Data efficiency compares at least two shares of the training images. Give them as in 0.1,0.25,0.5,1."
        )
    base = DistillSpec(**{**DEFAULTS, **settings})
    return Sweep(base, {"method": tuple(methods), "unlabelled": tuple(unlabelled), "data_fraction": tuple(fractions)})
