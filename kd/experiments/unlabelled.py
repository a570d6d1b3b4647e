"""Unlabelled images of a planned student."""

from typing import Any

from kd.datasets.unlabelled import inspect_unlabelled
from kd.errors import UsageError
from kd.spec import NONE, REST
from kd.store.runs import Store


def unlabelled_images(wanted: str, method: str, mask_target: str, data_fraction: float, store: Store) -> dict[str, Any]:
    """Spec fields of the unlabelled images of a student. wanted: as `RunSpec.unlabelled`. Raises UsageError."""
    from kd.methods import require_unlabelled  # torch: not for pages that only read runs

    if wanted == NONE:
        return {}
    require_unlabelled(method, mask_target)
    if wanted != REST:
        found = inspect_unlabelled(wanted, store.paths)
        return {"unlabelled": found.reference, "unlabelled_fingerprint": found.fingerprint}
    if data_fraction == 1:
        raise UsageError("unlabelled is rest, the training images that data_fraction leaves out, but data_fraction 1 "
                         "leaves out none. Give a smaller data_fraction such as 0.1, or the path of a folder of "
                         "images.")
    return {"unlabelled": REST}
