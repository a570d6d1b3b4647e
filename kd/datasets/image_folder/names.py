"""What the name of a file or folder says: an image, a mask, a part, a fold, an edition, a patient."""

import os
import re
import unicodedata
from functools import lru_cache

from kd.datasets.decode import EXTENSIONS

PARTS = {"train": "train", "training": "train", "trn": "train", "test": "test", "testing": "test", "tst": "test",
         "holdout": "test", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
_FILLERS = frozenset((
    "set", "sets", "data", "dataset", "image", "images", "img", "imgs", "split", "part", "folder", "folders",
    "files", "samples", "scans"))
_GLUED = re.compile(r"(train|training|test|testing|val|valid|validation)(set|data|images|imgs)")
_FOLD = re.compile(r"(?:fold|cv|split|partition)[\s_-]*(\d+)", re.IGNORECASE)
_MASK_WORDS = frozenset((
    "mask", "masks", "seg", "segs", "segmentation", "segmentations", "annotation", "annotations", "gt",
    "groundtruth", "contour", "contours", "roi", "rois"))
_MASK_FILLERS = frozenset((
    "image", "images", "lesion", "lesions", "lung", "lungs", "tumor", "tumour", "infection", "binary", "png",
    "label", "labels", "data", "ground", "truth", "set", "manual"))
_MASK_FILE = re.compile(r"(?P<base>.+?)[\s_.-]+(?:mask|seg|segmentation|gt|groundtruth|annotation|label|roi)"
                        r"(?:[\s_.-]*\(?\d+\)?)?|(?:mask|seg|segmentation)[\s_-]+(?P<after>.+)", re.IGNORECASE)
_MASK_HINT = re.compile(r"mask|seg|gt|truth|annotation|label|roi", re.IGNORECASE)
_NEUTRAL = frozenset((
    "image", "images", "img", "imgs", "original", "originals", "raw", "scan", "scans", "jpg", "jpeg", "png",
    "photos", "frames", "slices", "data"))
_EDITIONS = frozenset((
    "augmented", "augmentation", "augmentations", "aug", "original", "originals", "orig", "raw", "processed",
    "preprocessed", "dataset", "datasets", "data", "resized", "cropped", "enhanced", "balanced", "clean", "cleaned",
    "segmented", "edition", "version", "copy", "backup"))
_PATIENT = re.compile(r"(?:p|pt|pat|patient|person|case|subj|subject|sub|id|s)?[\s_.-]*\d+", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+")


def is_hidden(name: str) -> bool:
    """Whether a file or folder name is of the kind that systems put there for themselves."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Whether the ending of a file's name is that of an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def is_image_content(head: bytes) -> bool:
    """Whether the first 12 bytes of a file without an ending are those of an image."""
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def has_ending(name: str) -> bool:
    return bool(re.search(r"\.\w{1,5}$", name))


def printable(name: str) -> str:
    """A file name that can be shown and stored: bytes that are no UTF-8 stand as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def composed(name: str) -> str:
    """A name with its accents composed (NFC), so that names made on different systems are equal."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def words(name: str) -> list[str]:
    """The words of a name in small letters: `AugmentedDataset` and `augmented_dataset` have the same."""
    return [word.lower() for word in _WORDS.findall(name)]


def part_of(name: str) -> str | None:
    """train, val or test, if a folder's name is one of them in any spelling: `Train Set`, `test-images`, `dev`."""
    glued = _GLUED.fullmatch(name.lower())
    found = [glued[1]] if glued else [word for word in _plain_words(name) if word not in _FILLERS]
    return PARTS.get(found[0]) if len(found) == 1 else None


def _plain_words(name: str) -> list[str]:
    return [word for word in re.split(r"[\s_.-]+", name.strip().lower()) if word]


def parts_of(names: list[str]) -> dict[str, str]:
    """The part of each folder of these that is one; a word that all share is left out, as in `brain_train, brain_test`.
    """
    found = {name: part for name in names if (part := part_of(name))}
    if found or len(names) < 2:
        return found
    shared = set.intersection(*(set(_plain_words(name)) for name in names))
    bare = {name: "_".join(word for word in _plain_words(name) if word not in shared) for name in names}
    parts = {name: part_of(rest) for name, rest in bare.items()} if shared else {}
    return {name: part for name, part in parts.items() if part} if parts and all(parts.values()) else {}


def fold_of(name: str) -> int | None:
    """The number of a fold, as in `fold_1`."""
    found = _FOLD.fullmatch(name.strip())
    return int(found[1]) if found else None


@lru_cache(4096)
def is_mask_folder(name: str) -> bool:
    """Whether a folder's name says masks and nothing else: `masks`, `lung segmentation`, but not `with_mask`."""
    found = set(words(name))
    return bool(found & _MASK_WORDS) and not found - _MASK_WORDS - _MASK_FILLERS


def masked_stem(stem: str) -> str | None:
    """The stem of the image that a mask's name is made of: `x_mask`, `x_mask_1` and `mask_x` are of `x`."""
    found = _MASK_FILE.fullmatch(stem) if _MASK_HINT.search(stem) else None
    return (found["base"] or found["after"]) if found else None


@lru_cache(4096)
def is_neutral(name: str) -> bool:
    """Whether a folder's name says nothing about its images, as `images`."""
    return name.lower() in _NEUTRAL


def is_edition(name: str) -> bool:
    """Whether a folder's name is that of an edition of a data set: `AugmentedAlzheimerDataset`, `original`."""
    return bool(set(words(name)) & _EDITIONS)


def is_numbered(names: list[str]) -> bool:
    """Whether folders differ in their number only, as `images_part_1` and `images_part_2`."""
    return len(names) > 1 and len({re.sub(r"\d+", "#", name) for name in names}) == 1


def is_patient(name: str) -> bool:
    """Whether a folder's name is that of a numbered patient: `17`, `patient_03`, `case 4`."""
    return bool(_PATIENT.fullmatch(name))
