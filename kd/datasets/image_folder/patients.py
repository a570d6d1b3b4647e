"""Patients by where images lie or what they are called: `<class>/<patient>/<slice>`, `subj002_slice01`."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from kd.datasets.image_folder import names

# A word for a patient with a number; both eyes of one; NIH's chest X-rays; OASIS, TCGA and LIDC.
_NAMED = re.compile(r"(?<![a-z])(?:patient|pat|pt|p|subject|subj|sub|person|case)(?:id)?[\s_.-]*\d+"
                    r"|^\d+(?=[\s_.-]+(?:left|right|l|r|od|os)(?![a-z]))|^\d{8}(?=_\d{3}$)"
                    r"|^oas[1-4][_-]?\d{4}|tcga-\w\w-\w{4}|lidc-idri-\d{4}", re.IGNORECASE)

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


def patients_in_names(files: Sequence[str]) -> list[str | None] | None:
    """The patient that each file's name gives, as `mildDem_subj002` of `mildDem_subj002_slice01.jpg`: the name up to
    the patient's number, None for a file that has none. None in all where fewer than half of the files have one, or no
    two share one: then the numbers may count images.
    """
    found = [_named(PurePosixPath(file).stem) for file in files]
    known = [patient for patient in found if patient]
    return found if 2 * len(known) >= len(files) and 1 < len(set(known)) < len(known) else None


def _named(stem: str) -> str | None:
    match = _NAMED.search(stem)
    return names.printable(names.composed(stem[:match.end()])) if match else None


def is_patients_note(note: str) -> bool:
    """Whether a note says of folders whether they are patients: of no use where files name their patients."""
    return note.startswith("The ") and "folders below the classes" in note
