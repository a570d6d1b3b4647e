"""timm's models by name: which there are, and what each is made of, read from an instance on the meta device."""

import math
import re
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import cache, lru_cache
from inspect import isclass
from typing import Any

import timm
import torch
from timm.models import get_deprecated_models
from torch import Tensor, nn

from kd.errors import UsageError
from kd.models.base import Stage
from kd.models.capture import Capture, capture

# Layers in which every position looks at every other, as timm names them; pooling by attention is no such layer.
ATTENTION = re.compile(r"Attention(?!Pool)|Transformer")
# What a network raises that is given a picture it was not made for.
FORWARD_ERRORS = (RuntimeError, AssertionError, ValueError, IndexError, TypeError, ZeroDivisionError)


@dataclass(frozen=True)
class Tap:
    """Where a stage is read: the module's name, and how its output is to be taken (see `Capture`)."""

    module: str
    stage: Stage
    element: int | None
    clone: bool


@dataclass(frozen=True)
class TimmInfo:
    """taps: timm's feature stages, from the input on. last: the output of `forward_features`.

    linear: the classifier's name where it is the only layer with weights behind the last stage, else None.
    classifier: names of the layers that depend on the number of classes. mean, std: the scaling the weights expect.
    """

    taps: tuple[Tap, ...]
    last: Stage
    linear: str | None
    classifier: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int

    @property
    def stem(self) -> int:
        """How many of the taps are the stem: one that only halves the picture (timm lists it for most families)."""
        return int(self.taps[0].stage.reduction <= 2)


@lru_cache(maxsize=256)
def timm_info(name: str) -> TimmInfo:
    """Facts of a timm CNN. Raises UsageError for a name that is none."""
    require_known(name)
    net = create(name, classes=2, device="meta")
    if not isinstance(getattr(net, "feature_info", None), (list, tuple)) or not hasattr(net, "forward_head"):
        raise _refusal(name, "timm does not list its stages")
    if any(ATTENTION.search(type(module).__name__) for module in net.modules()):
        raise _refusal(name, "it looks at the whole picture by attention")
    config = net.pretrained_cfg
    if config.get("fixed_input_size"):
        raise _refusal(name, f"it takes pictures of {config['input_size'][-1]} px only")
    size = config["input_size"][-1]
    images = torch.zeros(1, 3, size, size, device="meta")
    taps, features = _taps(name, net.eval(), images)
    stated = net.feature_info[-1]["reduction"]
    stage = Stage("features", features.shape[1], _reduction(stated, features, images))
    return TimmInfo(taps, stage, _lone_linear(net, features), _names(config["classifier"]), tuple(config["mean"]),
                   tuple(config["std"]), size)


def require_cnn(name: str) -> None:
    """Raise UsageError unless `name` is a timm network with feature maps on a grid, which can be explained."""
    timm_info(name)


def create(name: str, classes: int, device: str = "cpu", **arguments: Any) -> Any:
    """timm's network with a classifier for so many classes. arguments: timm's own, such as `pretrained`."""
    with torch.device(device):
        return timm.create_model(name, num_classes=classes, **arguments)


def _taps(name: str, net: Any, images: Tensor) -> tuple[tuple[Tap, ...], Tensor]:
    """The taps, and what `forward_features` gives."""
    infos = [info for info in net.feature_info if info["module"] in dict(net.named_modules()) and info["module"]]
    versions: dict[int, int] = {}
    for index, info in enumerate(infos):
        module = net.get_submodule(info["module"])
        module.register_forward_hook(Capture(index))
        module.register_forward_hook(lambda _, __, out, i=index: versions.update({i: _version(out)}))
    try:
        with torch.no_grad():
            last, outputs = capture(net.forward_features, images, len(infos))
    except FORWARD_ERRORS as error:
        raise _refusal(name, f"its forward pass fails ({reason(error)})") from error
    taps = [_tap(info, output, versions[index])
            for index, (info, output) in enumerate(zip(infos, outputs, strict=True)) if output is not None]
    found = tuple(tap for tap in taps if tap is not None)
    if not found or not _on_a_grid(last, images):
        raise _refusal(name, "its features do not lie on a grid [channels, height, width]")
    return found, last


def _tap(info: dict[str, Any], output: Any, version: int) -> Tap | None:
    """Where a module returns several maps, the one that timm's facts mean: of that many channels, else the coarsest."""
    element = None
    if isinstance(output, (list, tuple)):
        maps = {i: part for i, part in enumerate(output) if isinstance(part, Tensor) and part.ndim == 4}
        if not maps:
            return None
        element = min(maps, key=lambda i: (maps[i].shape[1] != info["num_chs"], maps[i].shape[-1]))
        picked = maps[element]
    else:
        picked = output
    if not isinstance(picked, Tensor) or picked.ndim != 4:
        return None
    changed = _version(output) != version
    return Tap(info["module"], Stage(info["module"], picked.shape[1], info["reduction"]), element, changed)


def _version(output: Any) -> int:
    """How often the maps of an output have been written to."""
    parts = output if isinstance(output, (list, tuple)) else [output]
    return sum(part._version for part in parts if isinstance(part, Tensor))


def _on_a_grid(features: Any, images: Tensor) -> bool:
    """[B, C, H, W] and not tokens or [B, H, W, C]: of a square picture the grid is a square too."""
    return (isinstance(features, Tensor) and features.ndim == 4
            and features.shape[2] == features.shape[3] < images.shape[-1])


def _reduction(stated: int, features: Tensor, images: Tensor) -> int:
    """timm's figure, unless the last stage has a finer grid than the stage it speaks of."""
    seen = images.shape[-1] / features.shape[-1]
    return stated if abs(math.log2(seen / stated)) < 0.5 else round(seen)


def _lone_linear(net: Any, features: Tensor) -> str | None:
    """The classifier's name if nothing else in the head has weights."""
    fired: list[str] = []
    for name, module in net.named_modules():
        if [*module.parameters(recurse=False)]:
            module.register_forward_pre_hook(lambda _, __, name=name: fired.append(name))
    with torch.no_grad():
        net.forward_head(features)
    alone = net.get_submodule(fired[0]) if len(fired) == 1 else None
    return fired[0] if isinstance(alone, nn.Linear) and alone.in_features == features.shape[1] else None


def _names(classifier: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (classifier,) if isinstance(classifier, str) else tuple(classifier or ())


def _refusal(name: str, reason: str) -> UsageError:
    return UsageError(f"{name!r} cannot be used: {reason}. Choose a convolutional network, such as resnet18, "
                      "densenet121 or mobilenetv2_100.")


def reason(error: BaseException) -> str:
    """The first line of an error, for a sentence."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first if len(first) <= 100 else f"{first[:99]}…"


@dataclass(frozen=True)
class ModelEntry:
    """A timm architecture. hub: whether timm has trained weights for it."""

    name: str
    hub: bool


@cache
def catalogue() -> tuple[ModelEntry, ...]:
    """Architectures that look convolutional by the facts timm keeps beside each name; none is built.

    They end in pooling a grid and take pictures of any size, and their family has no attention layers. A name that is
    missing here may still be used: `require_cnn` builds it and looks.
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


def require_known(name: str) -> None:
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
