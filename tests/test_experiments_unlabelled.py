"""Unlabelled images that a student cannot have are refused when it is planned, with the way out."""

import pytest
from small import DATA, request

from kd.errors import UsageError
from kd.experiments.plan import plan_specs
from kd.experiments.unlabelled import unlabelled_images
from kd.store.runs import Store


@pytest.mark.parametrize(("changes", "message"), [
    ({"unlabelled": "rest"}, "data_fraction 1 leaves out none"),
    ({"method": "medtex", "mask_target": "outlines", "data_fraction": 0.5, "unlabelled": "rest"},
     "Unlabelled images have no outlines"),
    ({"unlabelled": "nowhere"}, "There are no unlabelled images at 'nowhere'"),
    ({"unlabelled": DATA}, "There are no unlabelled images at"),
])
def test_what_cannot_be_is_refused_when_planned(changes, message):
    with pytest.raises(UsageError, match=message):
        plan_specs(request(**changes), Store())


def test_only_students_that_want_them_have_any():
    assert unlabelled_images("none", "dkd", "none", 1.0, Store()) == {}
    assert unlabelled_images("rest", "kd", "none", 0.5, Store()) == {"unlabelled": "rest"}
