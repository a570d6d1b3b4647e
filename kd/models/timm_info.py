"""timm's networks whose last features are a map: their stages and heads, read from an instance on the meta device."""

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import timm
import torch
from timm.models import get_deprecated_models
from torch import Tensor, nn

from kd.errors import UsageError
from kd.models.base import Stage
from kd.models.layouts import Layout, layout_of, to_grid
from kd.torch_utils.flops import FlopCounter
from kd.torch_utils.overrides import record

# Errors that a network raises for an image size that it was not made for.
FORWARD_ERRORS = (RuntimeError, AssertionError, ValueError, IndexError, TypeError, ZeroDivisionError,
                  AttributeError)

_SHAPES = re.compile(r"broadcast|size of tensor|shape '|must match")


@dataclass(frozen=True)
class StageOutput:
    """Source of a stage's features. module: name of the module that computes them, and element: index in its output,
    where that is a list. index: number of the stage for timm's `forward_intermediates`, or None where that does not
    return the tensor that the network continues with, through which gradients flow (HRNet's are of its last, fused
    stage only, Xception's are copies). layout: in which the module gives them."""

    stage: Stage
    module: str
    element: int | None
    index: int | None
    layout: Layout = Layout.CHANNELS_FIRST


@dataclass(frozen=True)
class TimmInfo:
    """Facts of a timm network. outputs: timm's feature stages, from the input on. last: the output of
    `forward_features`, in `layout`.

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
    layout: Layout

    @property
    def stem(self) -> int:
        """Number of outputs of the stem: 1 where the first only halves the image (most families), else 0."""
        return int(self.outputs[0].stage.reduction <= 2)


@lru_cache(maxsize=256)
def timm_info(name: str) -> TimmInfo:
    """Facts of a timm network whose last features lie on a grid. Raises UsageError for any other name."""
    require_known(name)
    try:
        return _read(name, create(name, classes=2, device="meta").eval())
    except FORWARD_ERRORS as error:
        raise _refusal(name, f"timm makes no classifier of it ({reason(error)})") from error


def _read(name: str, net: Any) -> TimmInfo:
    listed = isinstance(getattr(net, "feature_info", None), (list, tuple))
    if not listed or not hasattr(net, "forward_intermediates") or not hasattr(net, "forward_head"):
        raise _refusal(name, "timm does not list its stages")
    if tokens := getattr(net, "num_prefix_tokens", 0):
        raise _refusal(name, f"{tokens} of its last tokens belong to no place in the image, as a class token, so that "
                             "its answer is none of a map alone")
    config = net.pretrained_cfg
    size = config["input_size"][-1]
    images = torch.zeros(1, 3, size, size, device="meta")
    outputs, features, layout = _stage_outputs(name, net, images)
    maps = to_grid(features, layout)
    stage = Stage("features", maps.shape[1], _reduction(net.feature_info[-1]["reduction"], maps, images))
    return TimmInfo(outputs, stage, _lone_linear(net, features, maps.shape[1]), _names(config["classifier"]),
                    tuple(config["mean"]), tuple(config["std"]), size, layout)


def require_cnn(name: str) -> None:
    """Raise UsageError unless `name` is a timm network with feature maps on a grid, which can be explained."""
    timm_info(name)


def create(name: str, classes: int, device: str = "cpu", **arguments: Any) -> Any:
    """timm's network with a classifier for so many classes. arguments: timm's own, such as `pretrained`."""
    with torch.device(device):
        return timm.create_model(name, num_classes=classes, **arguments)


def _stage_outputs(name: str, net: Any, images: Tensor) -> tuple[tuple[StageOutput, ...], Tensor, Layout]:
    """Sources of the stages, the output of `forward_features`, and its layout."""
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
    outputs, layout = tuple(output for output in found if output is not None), layout_of(last, net.num_features)
    if not outputs or layout is None or to_grid(last, layout).shape[-1] >= images.shape[-1]:
        raise _refusal(name, "its last features do not lie on a grid of places in the image")
    return outputs, last, layout


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
    layout = layout_of(computed, info["num_chs"])
    if layout is None and isinstance(computed, Tensor) and computed.ndim == 4:
        layout = Layout.CHANNELS_FIRST  # of a network whose stated channels are not those of this module
    if layout is None:
        return None
    return StageOutput(Stage(info["module"], to_grid(computed, layout).shape[1], info["reduction"]), info["module"],
                       element, index if intermediate is computed else None, layout)


def _reduction(stated: int, features: Tensor, images: Tensor) -> int:
    """Reduction that timm states, unless the last stage has a finer grid than the stage that it is stated of."""
    seen = images.shape[-1] / features.shape[-1]
    return stated if abs(math.log2(seen / stated)) < 0.5 else round(seen)


def _lone_linear(net: Any, features: Tensor, channels: int) -> str | None:
    """The classifier's name if nothing else in the head has weights."""
    with torch.no_grad(), FlopCounter(net) as counter:
        net.forward_head(features)
    layers = {name.rpartition(".")[0] for name in counter.weights_used}
    alone = net.get_submodule(next(iter(layers))) if len(layers) == 1 else None
    return layers.pop() if isinstance(alone, nn.Linear) and alone.in_features == channels else None


def _names(classifier: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (classifier,) if isinstance(classifier, str) else tuple(classifier or ())


def _refusal(name: str, reason: str) -> UsageError:
    return UsageError(f"{name!r} cannot be used: {reason}. Choose a network whose last features are a map, such as "
                      "resnet18, densenet121 or mobilenetv2_100.")


def reason(error: BaseException) -> str:
    """The first line of an error, for a sentence."""
    silent = "its windows do not divide the grid" if isinstance(error, AssertionError) else type(error).__name__
    first = (str(error).strip().splitlines() or [silent])[0]
    if _SHAPES.search(first):
        return "a table of places in it has another size"
    return first if len(first) <= 100 else f"{first[:99]}…"


def require_known(name: str) -> None:
    """Raise UsageError, with the nearest names, unless timm has this architecture (a tag such as `.a1_in1k` may
    follow) and these weights."""
    replaced = get_deprecated_models().get(name)
    if replaced:
        raise UsageError(f"{name!r} is timm's old name. Use {replaced!r}.")
    if not timm.is_model(name) or ":" in name or name in get_deprecated_models():
        near = get_close_matches(name.lower(), timm.list_models(), n=3)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "Search with a part of a name."
        raise UsageError(f"Unknown timm model {name!r}. {hint}")
    architecture, _, tag = name.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in tags:
        raise UsageError(f"timm's {architecture} has no weights called {tag!r}. Known: {', '.join(tags) or 'none'}.")
