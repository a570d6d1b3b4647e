"""timm's models by name: which there are, and a way out for a name that is not one."""

import re
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import cache
from inspect import isclass
from typing import Any

import timm
from timm.models import get_deprecated_models
from torch import nn

from kd.errors import UsageError

# Layers in which every position looks at every other, as timm names them; pooling by attention is no such layer.
ATTENTION = re.compile(r"Attention(?!Pool)|Transformer")


@dataclass(frozen=True)
class ModelEntry:
    """A timm architecture. hub: whether timm has trained weights for it."""

    name: str
    hub: bool


@cache
def catalogue() -> tuple[ModelEntry, ...]:
    """Architectures that look convolutional by the facts timm keeps beside each name; none is built.

    They end in pooling a grid and take pictures of any size, and their family has no attention layers. A name that is
    missing here may still be used: `check_cnn` builds it and looks.
    """
    names = [name for family in timm.list_modules() if not _has_attention(family)
             for name in timm.list_models(module=family)]
    found = [ModelEntry(name, timm.is_model_pretrained(name)) for name in names if _pools_a_grid(name)]
    return tuple(sorted(found, key=lambda entry: _natural(entry.name)))


def search(pattern: str = "", limit: int | None = None) -> list[ModelEntry]:
    """Entries whose name holds `pattern`, or matches it where it has `*` or `?`; case does not matter.

    limit: at most so many. Names that begin with the pattern come first.
    """
    wanted = pattern.strip().lower().removeprefix("timm:")
    if any(letter in wanted for letter in "*?["):
        found = [entry for entry in catalogue() if fnmatch(entry.name.lower(), wanted)]
    else:
        found = [entry for entry in catalogue() if wanted in entry.name.lower()]
        found.sort(key=lambda entry: not entry.name.lower().startswith(wanted))
    return found[:limit]


def check_name(name: str) -> None:
    """Raise UsageError, with the nearest names, unless timm has this architecture (a tag such as `.a1_in1k` may
    follow) and these weights."""
    replaced = get_deprecated_models().get(name)
    if replaced:
        raise UsageError(f"{name!r} is timm's old name. Use {replaced!r}.")
    known = [entry.name for entry in catalogue()]
    if not timm.is_model(name) or ":" in name or name in get_deprecated_models():
        near = get_close_matches(name.lower(), known, n=3)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "Search with a part of a name."
        raise UsageError(f"Unknown timm model {name!r}. {hint}")
    architecture, _, tag = name.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in tags:
        raise UsageError(f"timm's {architecture} has no weights called {tag!r}. Known: {', '.join(tags) or 'none'}.")


def _pools_a_grid(name: str) -> bool:
    config: Any = timm.get_pretrained_cfg(name)
    return config is not None and bool(config.pool_size) and not config.fixed_input_size


def _has_attention(family: str) -> bool:
    return any(isclass(member) and issubclass(member, nn.Module) and ATTENTION.search(name)
               for name, member in vars(sys.modules[f"timm.models.{family}"]).items())


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """resnet18 before resnet101."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
