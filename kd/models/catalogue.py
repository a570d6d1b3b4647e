"""Catalogue of timm's networks whose last features are a map, with the image sizes that they take.

`catalogue.txt` is what `benchmarks.catalogue` found with the pinned timm; nothing is built to list them. A name that is
missing, as of another version of timm, may still be used: `require_cnn` builds it and checks.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import timm

from kd.spec import timm_name

FILE = Path(__file__).with_name("catalogue.txt")
ANY = "any"  # in the file, of sizes


@dataclass(frozen=True)
class ModelEntry:
    """A timm architecture. hub: whether timm has trained weights for it. sizes: the image sizes in pixels that it takes
    of those that were tried; empty where it takes any, unless it is too small for its stages."""

    name: str
    hub: bool
    sizes: tuple[int, ...] = ()


@cache
def catalogue() -> tuple[ModelEntry, ...]:
    """All entries by name, those that this version of timm has."""
    known = set(timm.list_models())
    found = [ModelEntry(name, timm.is_model_pretrained(name), sizes) for name, sizes in listed() if name in known]
    return tuple(sorted(found, key=lambda entry: _natural(entry.name)))


def listed() -> list[tuple[str, tuple[int, ...]]]:
    """Names and sizes in the file."""
    lines = [line.split() for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    return [(name, () if sizes == [ANY] else tuple(map(int, sizes))) for name, *sizes in lines]


def search(pattern: str = "", limit: int | None = None) -> list[ModelEntry]:
    """Entries whose name holds `pattern`, or matches it where it has `*` or `?`; neither case nor a tag such as
    `.a1_in1k` matters.

    limit: at most so many. Names that begin with the pattern come first.
    """
    wanted = timm_name(pattern.strip().lower()).partition(".")[0]
    if any(letter in wanted for letter in "*?["):
        found = [entry for entry in catalogue() if fnmatch(entry.name.lower(), wanted)]
    else:
        found = [entry for entry in catalogue() if wanted in entry.name.lower()]
        found.sort(key=lambda entry: not entry.name.lower().startswith(wanted))
    return found[:limit]


def sizes_taken(name: str) -> tuple[int, ...]:
    """The image sizes that a network takes, as of `ModelEntry`; empty also for a name that is not in the catalogue."""
    return dict(listed()).get(timm_name(name).partition(".")[0], ())


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """resnet18 before resnet101."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
