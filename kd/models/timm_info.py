"""Catalogue of timm's CNNs, and their stages and heads, read from an instance on the meta device."""

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
from kd.spec import timm_name
from kd.torch_utils.flops import FlopCounter
from kd.torch_utils.overrides import record

# Layers with global attention, as timm names them; attention pooling is not meant.
ATTENTION = re.compile(r"Attention(?!Pool)|Transformer")
# Errors that a network raises for an image size that it was not made for.
FORWARD_ERRORS = (RuntimeError, AssertionError, ValueError, IndexError, TypeError, ZeroDivisionError)


@dataclass(frozen=True)
class StageOutput:
    """Source of a stage's features. module: name of the module that computes them, and element: index in its output,
    where that is a list. index: number of the stage for timm's `forward_intermediates`, or None where that does not
    return the tensor that the network continues with, through which gradients flow (HRNet's are of its last, fused
    stage only, Xception's are copies)."""

    stage: Stage
    module: str
    element: int | None
    index: int | None


@dataclass(frozen=True)
class TimmInfo:
    """Facts of a timm CNN. outputs: timm's feature stages, from the input on. last: the output of `forward_features`.

    linear: the classifier's name where it is the only layer with weights behind the last stage, else None.
    classifier: names of the layers that depend on the number of classes. mean, std: the scaling the weights expect.
    """

    outputs: tuple[StageOutput, ...]
    last: Stage
    linear: str | None
    classifier: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int

    @property
    def stem(self) -> int:
        """Number of outputs of the stem: 1 where the first only halves the image (most families), else 0."""
        return int(self.outputs[0].stage.reduction <= 2)


@lru_cache(maxsize=256)
def timm_info(name: str) -> TimmInfo:
    """Facts of a timm CNN. Raises UsageError for any other name."""
    require_known(name)
    net = create(name, classes=2, device="meta")
    listed = isinstance(getattr(net, "feature_info", None), (list, tuple))
    if not listed or not hasattr(net, "forward_intermediates") or not hasattr(net, "forward_head"):
        raise _refusal(name, "timm does not list its stages")
    if any(ATTENTION.search(type(module).__name__) for module in net.modules()):
        raise _refusal(name, "it uses attention over the whole image")
    config = net.pretrained_cfg
    if config.get("fixed_input_size"):
        raise _refusal(name, f"it takes images of {config['input_size'][-1]} px only")
    size = config["input_size"][-1]
    images = torch.zeros(1, 3, size, size, device="meta")
    outputs, features = _stage_outputs(name, net.eval(), images)
    stated = net.feature_info[-1]["reduction"]
    stage = Stage("features", features.shape[1], _reduction(stated, features, images))
    return TimmInfo(outputs, stage, _lone_linear(net, features), _names(config["classifier"]), tuple(config["mean"]),
                   tuple(config["std"]), size)


def require_cnn(name: str) -> None:
    """Raise UsageError unless `name` is a timm network with feature maps on a grid, which can be explained."""
    timm_info(name)


def create(name: str, classes: int, device: str = "cpu", **arguments: Any) -> Any:
    """timm's network with a classifier for so many classes. arguments: timm's own, such as `pretrained`."""
    with torch.device(device):
        return timm.create_model(name, num_classes=classes, **arguments)


def _stage_outputs(name: str, net: Any, images: Tensor) -> tuple[tuple[StageOutput, ...], Tensor]:
    """Sources of the stages, and the output of `forward_features`."""
    infos = {index: info for index, info in enumerate(net.feature_info)
             if info["module"] and info["module"] in dict(net.named_modules())}
    modules = [info["module"] for info in infos.values()]
    try:
        with torch.no_grad():
            (last, maps), computed = record(net, modules, lambda copied: copied.forward_intermediates(images, [*infos]))
    except FORWARD_ERRORS as error:
        raise _refusal(name, f"its forward pass fails ({reason(error)})") from error
    found = [_stage_output(index, info, output, intermediate)
             for (index, info), output, intermediate in zip(infos.items(), computed, maps, strict=True)]
    outputs = tuple(output for output in found if output is not None)
    if not outputs or not _on_a_grid(last, images):
        raise _refusal(name, "its features do not lie on a grid [channels, height, width]")
    return outputs, last


def _stage_output(index: int, info: dict[str, Any], computed: Any, intermediate: Tensor) -> StageOutput | None:
    """Source of one stage. Of a module with several maps, that with the channels that timm states, else the coarsest.
    """
    element = None
    if isinstance(computed, (list, tuple)):
        maps = {i: part for i, part in enumerate(computed) if isinstance(part, Tensor) and part.ndim == 4}
        if not maps:
            return None
        element = min(maps, key=lambda i: (maps[i].shape[1] != info["num_chs"], maps[i].shape[-1]))
        computed = maps[element]
    if not isinstance(computed, Tensor) or computed.ndim != 4:
        return None
    return StageOutput(Stage(info["module"], computed.shape[1], info["reduction"]), info["module"], element,
                       index if intermediate is computed else None)


def _on_a_grid(features: Any, images: Tensor) -> bool:
    """Whether features are [B, C, H, W] and not tokens or [B, H, W, C]: a square image has a square grid."""
    return (isinstance(features, Tensor) and features.ndim == 4
            and features.shape[2] == features.shape[3] < images.shape[-1])


def _reduction(stated: int, features: Tensor, images: Tensor) -> int:
    """Reduction that timm states, unless the last stage has a finer grid than the stage that it is stated of."""
    seen = images.shape[-1] / features.shape[-1]
    return stated if abs(math.log2(seen / stated)) < 0.5 else round(seen)


def _lone_linear(net: Any, features: Tensor) -> str | None:
    """The classifier's name if nothing else in the head has weights."""
    with torch.no_grad(), FlopCounter(net) as counter:
        net.forward_head(features)
    layers = {name.rpartition(".")[0] for name in counter.weights_used}
    alone = net.get_submodule(next(iter(layers))) if len(layers) == 1 else None
    return layers.pop() if isinstance(alone, nn.Linear) and alone.in_features == features.shape[1] else None


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
    """Architectures that are convolutional according to timm's metadata, without building any.

    They end in pooling a grid and take images of any size, and their family has no attention layers. A name that is
    missing here may still be used: `require_cnn` builds it and checks.
    """
    names = [name for family in timm.list_modules() if not _has_attention(family)
             for name in timm.list_models(module=family)]
    found = [ModelEntry(name, timm.is_model_pretrained(name)) for name in names if _pools_a_grid(name)]
    return tuple(sorted(found, key=lambda entry: _natural(entry.name)))


def search(pattern: str = "", limit: int | None = None) -> list[ModelEntry]:
    """Entries whose name holds `pattern`, or matches it where it has `*` or `?`; case does not matter.

    limit: at most so many. Names that begin with the pattern come first.
    """
    wanted = timm_name(pattern.strip().lower())
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
