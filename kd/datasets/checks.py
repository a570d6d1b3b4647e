"""Whether a set can be learned from: said in sentences, before and after its pictures are read."""

from collections.abc import Mapping, Sequence

from kd.datasets.base import Skipped
from kd.errors import UsageError

Counts = Mapping[str, Sequence[int]]  # pictures per class, by part


def require_sound(where: str, classes: Sequence[str], counts: Counts, skipped: Sequence[Skipped] = ()) -> None:
    """Raise UsageError, with the way out, when a set cannot be trained on and tested."""
    lost = f" ({len(skipped)} files could not be read, first {skipped[0].name}: {skipped[0].reason})" if skipped else ""
    if len(classes) < 2:
        only = f"only the class {classes[0]!r}" if classes else "no class"
        raise UsageError(f"{where} has {only}: at least two class folders are needed.")
    for number, name in enumerate(classes):
        elsewhere = [part for part in ("test", "val") if counts[part][number]]
        if not counts["train"][number] and elsewhere:
            raise UsageError(f"{where}: {elsewhere[0]} has the class {name!r}, of which training has no picture{lost}. "
                             f"Add some to train, or remove the class from {' and '.join(elsewhere)}.")
        if not counts["train"][number]:
            raise UsageError(f"{where}: the class {name!r} has no picture to train on{lost}. "
                             "Add some, or remove its folder.")
    for part, why in (("val", "to choose the best epoch by"), ("test", "to measure the result on")):
        if not sum(counts[part]):
            raise UsageError(f"{where} has too few pictures: none is left {why}{lost}. "
                             "Add pictures, at least three per class.")


def gaps(classes: Sequence[str], counts: Counts) -> tuple[str, ...]:
    """Warnings on classes that a part lacks: allowed, but scores there say nothing of them."""
    means = {"val": "choosing the best epoch cannot take it into account", "test": "the test says nothing about it"}
    return tuple(f"The class {name!r} has no picture in {part}: {meaning}."
                 for part, meaning in means.items()
                 for number, name in enumerate(classes) if not counts[part][number])
