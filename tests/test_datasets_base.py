"""Whether a set can be learned from."""

import pytest

from kd.datasets.base import Skipped, missing_classes, require_trainable
from kd.errors import UsageError

GOOD = {"train": [3, 3], "val": [1, 1], "test": [1, 1]}


def test_a_sound_set_passes() -> None:
    assert require_trainable("x", ("a", "b"), GOOD) is None
    assert missing_classes(("a", "b"), GOOD) == ()


@pytest.mark.parametrize(("classes", "counts", "words"), [
    ((), {"train": [], "val": [], "test": []}, "no class.*two class folders"),
    (("a",), {"train": [3], "val": [1], "test": [1]}, "only the class 'a'"),
    (("a", "b"), {**GOOD, "train": [3, 0]}, "test has the class 'b'.*no image.*remove the class from test and val"),
    (("a", "b"), {"train": [3, 0], "val": [1, 0], "test": [1, 0]}, "'b' has no image to train on.*remove its folder"),
    (("a", "b"), {**GOOD, "val": [0, 0]}, "too few.*best epoch"),
    (("a", "b"), {**GOOD, "test": [0, 0]}, "too few.*measure"),
])
def test_unsound_sets_say_what_to_do(classes: tuple[str, ...], counts: dict[str, list[int]], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        require_trainable("x", classes, counts)


def test_the_first_bad_file_is_named_where_it_matters() -> None:
    with pytest.raises(UsageError, match=r"2 files could not be read, first b/1.png: empty"):
        require_trainable("x", ("a", "b"), {**GOOD, "train": [3, 0]},
                      [Skipped("b/1.png", "empty"), Skipped("b/2.png", "empty")])


def test_a_class_missing_in_test_or_val_is_a_warning() -> None:
    told = missing_classes(("a", "b"), {**GOOD, "test": [0, 2], "val": [1, 0]})
    assert len(told) == 2
    assert "'b'" in told[0] and "val" in told[0]
    assert "'a'" in told[1] and "test" in told[1]
