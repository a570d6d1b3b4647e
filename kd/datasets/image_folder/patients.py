"""Folders below the classes as patients: `<class>/<patient>/<slice>`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from kd.datasets.image_folder import names


def patients_of(images: Mapping[str, tuple[str, Sequence[str]]]) -> tuple[dict[str, str], tuple[str, ...],
                                                                          tuple[str, ...]]:
    """The patient of each image that lies in a folder of its own below its class, notes and warnings.

    images: by name, the class folder and the folders below it. The same folder name below two classes is one patient:
    to keep them apart could put one patient on both sides of a split. Folders that are the same below every class and
    are not numbered (views, magnifications) are no patients.
    """
    below: dict[str, set[str]] = defaultdict(set)
    found: dict[str, str] = {}
    classes = {folder for folder, _ in images.values()}
    for name, (folder, inner) in images.items():
        kept = [names.composed(piece) for piece in inner if not names.is_neutral(piece)]
        if kept:
            found[name] = kept[0]
            below[folder].add(kept[0])
    every = set().union(*below.values())
    if len(every) < 2:
        return {}, (), ()
    factors = len(classes) > 1 and len(below) == len(classes) and all(inner == every for inner in below.values())
    if (factors or len(every) <= len(classes)) and not all(map(names.is_patient, every)):
        some = ", ".join(names.printable(name) for name in sorted(every)[:4])
        return {}, (), (f"The folders below the classes ({some} …) are not taken as patients: if they are, name them "
                        "in groups.csv.",)
    note = f"The {len(every)} folders below the classes are taken as patients."
    return {name: names.printable(patient) for name, patient in found.items()}, (note,), ()
