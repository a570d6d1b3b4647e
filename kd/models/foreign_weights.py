"""Weights under other names: fitted to a model by prefix, by timm's own conversion, or by order.

A file's names differ from a network's where it was wrapped (`module.`, `backbone.`), comes from torchvision or from its
authors, whose names timm converts when it downloads such files itself, or was made for grey images.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from timm.models._manipulate import adapt_input_conv
from torch import Tensor, nn

from kd.models.timm_info import create
from kd.models.weights_files import shortened

FILTERS = ("checkpoint_filter_fn", "_filter_torchvision_pretrained", "_filter_fn")  # timm's, by module
COUNTS = "num_batches_tracked"  # no layer here uses these counts, and old files lack them
DEEPEST = 8  # parts of a prefix
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Target:
    """A model to fill. own: its tensors by name, of any device. network: the timm network whose names the file may
    have, and whose conversion is used; empty for none. optional: names of layers (with their contents) that may be
    missing or have another shape, as the classifier. spare: names that the file may have and the model has not."""

    own: Tensors
    network: str = ""
    optional: tuple[str, ...] = ()
    spare: frozenset[str] = frozenset()

    def is_optional(self, name: str) -> bool:
        return any(name == layer or name.startswith(f"{layer}.") for layer in self.optional)

    def fitting(self, tensors: Tensors) -> int:
        """Number of the model's tensors that are there in their shape, the optional ones not counted."""
        return sum(name in tensors and tensors[name].shape == value.shape for name, value in self.needed.items())

    @property
    def needed(self) -> dict[str, Tensor]:
        """The tensors that must be there."""
        return {name: value for name, value in self.own.items()
                if not self.is_optional(name) and not name.endswith(COUNTS)}


@dataclass(frozen=True, eq=False)
class Fitted:
    """Tensors under a model's names as far as they could be found. notes: sentences on how, and on what was left out.
    """

    tensors: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)


def fitted(tensors: Tensors, target: Target) -> Fitted:
    """A file's tensors under the names of a model; of several ways to find them, that which finds most."""
    found = max(_ways(tensors, target), key=lambda one: target.fitting(one.tensors))
    if target.fitting(found.tensors) < len(target.needed) and (ordered := _in_order(tensors, target)):
        return ordered
    return _without_classifier(found, target)


def _ways(tensors: Tensors, target: Target) -> Iterator[Fitted]:
    for prefix in ("", *_prefixes(tensors)):
        inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        notes = _prefix_notes(prefix, [name for name in tensors if not name.startswith(prefix)])
        yield _coloured(Fitted(inside, notes), target)
        if convert := _conversion(target.network):
            converted = convert(inside)
            if converted is not None and list(converted) != list(inside):
                said = f"Its names are those of other authors than timm; timm's conversion for {target.network} "
                yield _coloured(Fitted(converted, [*notes, f"{said}was used."]), target)


def _prefixes(tensors: Tensors) -> list[str]:
    """Beginnings that a fifth of the names or more have in common, up to a dot."""
    counts: dict[str, int] = {}
    for name in tensors:
        parts = name.split(".")
        for end in range(1, min(len(parts), DEEPEST + 1)):
            prefix = ".".join(parts[:end]) + "."
            counts[prefix] = counts.get(prefix, 0) + 1
    return [prefix for prefix, count in counts.items() if 5 * count >= len(tensors)]


def _prefix_notes(prefix: str, outside: list[str]) -> list[str]:
    if not outside:
        return []  # a wrapper around the whole network means nothing
    return [f"Taken were the tensors under {prefix}; left out: {some(outside)}."]


def _coloured(found: Fitted, target: Target) -> Fitted:
    """With a first convolution for colour, where that of the file is for grey images: an image of three equal channels
    gives the same."""
    for name, value in found.tensors.items():
        own = target.own.get(name)
        if own is not None and value.ndim == own.ndim == 4 and value.shape[1] == 1 and own.shape[1] == 3 and \
                value.shape[0] == own.shape[0] and value.shape[2:] == own.shape[2:]:
            return Fitted({**found.tensors, name: adapt_input_conv(3, value, base_chans=1)}, [
                *found.notes, f"It was made for grey images: its first convolution ({name}) is spread over three "
                              "channels, so that a grey image gives the same."])
    return found


def _without_classifier(found: Fitted, target: Target) -> Fitted:
    """Without what lies in the classifier and does not fit, and without what the model has not by design."""
    kept = {name: value for name, value in found.tensors.items()
            if not (target.is_optional(name) and (name not in target.own or target.own[name].shape != value.shape))
            and (name in target.own or not (name in target.spare or name.endswith(COUNTS)))}
    lost = [value for name, value in found.tensors.items()
            if target.is_optional(name) and name not in kept and name.endswith("weight") and value.ndim]
    notes = [f"Its classifier of {lost[-1].shape[0]} classes was left out."] if lost else []
    return Fitted(kept, [*found.notes, *notes])


def _in_order(tensors: Tensors, target: Target) -> Fitted | None:
    """Tensors matched one after the other, where all shapes and the kinds of tensors agree; else None."""
    theirs = [(name, value) for name, value in tensors.items() if not name.endswith(COUNTS)]
    needed = list(target.needed.items())
    if len(theirs) - len(needed) not in (0, 1, 2) or not all(
            own.shape == value.shape and name.rpartition(".")[2] == other.rpartition(".")[2]
            for (name, own), (other, value) in zip(needed, theirs, strict=False)):
        return None
    found = {name: value for (name, _), (_, value) in zip(needed, theirs, strict=False)}
    return Fitted(found, ["Its names are unknown here; its tensors were matched by their order, in which all shapes "
                          "agree."])


@lru_cache(maxsize=8)
def _conversion(network: str) -> Callable[[Tensors], dict[str, Tensor] | None] | None:
    """timm's function that converts the names of a network's authors; None where it has none, and where it fails."""
    if not network:
        return None
    net = create(network, classes=1000, device="meta")
    module = vars(sys.modules[type(net).__module__])
    convert = next((module[name] for name in FILTERS if name in module), None)
    return None if convert is None else lambda tensors: _converted(convert, tensors, net)


def _converted(convert: Callable[..., Any], tensors: Tensors, net: nn.Module) -> dict[str, Tensor] | None:
    try:
        return dict(convert(dict(tensors), net))
    except TypeError:  # some take the tensors alone
        try:
            return dict(convert(dict(tensors)))
        except Exception:  # of a file that is not for this network
            return None
    except Exception:
        return None


def some(names: list[str]) -> str:
    """The first few names."""
    return ", ".join([*map(shortened, names[:3]), *["…"] * (len(names) > 3)])
