"""timm CNNs as classifiers, whole or truncated behind one of their first stages."""

from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import UsageError
from kd.models.base import Classifier
from kd.models.layouts import Layout, from_grid, to_grid
from kd.models.timm_info import StageOutput, TimmInfo, create, timm_info
from kd.torch_utils.flops import FlopCounter, meta_image
from kd.torch_utils.overrides import record, with_output


class TimmClassifier(Classifier):
    """A timm CNN. Stages: timm's feature stages but the last, then the output of `forward_features`.

    net: a timm network with `name`'s architecture; it is taken over.
    """

    net: Any

    def __init__(self, name: str, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__(mean, std)
        info = timm_info(name)
        self.net = net
        self.stages = (*(output.stage for output in info.outputs[:-1]), info.last)
        self._outputs = info.outputs[:-1]
        self._layout = info.layout
        self._linear = info.linear if is_pooled_linear(net, info) else None

    def forward_stages(self, prepared: Tensor) -> tuple[Tensor, ...]:
        last, maps = _read(self.net, self._outputs, prepared)
        return (*maps, to_grid(last, self._layout))

    def stages_from(self, prepared: Tensor, stage: int, features: Tensor) -> Tensor:
        return to_grid(_fixed(self.net, self._outputs[stage], features).forward_features(prepared), self._layout)

    def stages_until(self, prepared: Tensor, stage: int) -> Tensor:
        if stage in (-1, len(self._outputs)):
            return to_grid(self.net.forward_features(prepared), self._layout)
        return _read(self.net, (self._outputs[stage],), prepared, early=True)[1][0]

    def forward_head(self, features: Tensor) -> Tensor:
        return self.net.forward_head(from_grid(features, self._layout))

    @property
    def pooled_linear(self) -> nn.Linear | None:
        return self.net.get_submodule(self._linear) if self._linear else None


def _read(net: Any, outputs: tuple[StageOutput, ...], prepared: Tensor,
          early: bool = False) -> tuple[Any, list[Tensor]]:
    """(output of `forward_features`, maps of these stages). early: stop behind the last of them; then (None, maps)."""
    indices = [output.index for output in outputs]
    if None not in indices:
        found = net.forward_intermediates(prepared, indices=indices, stop_early=early, intermediates_only=early)
        return (None, found) if early else found
    relays = {output.module: (partial(to_grid, layout=output.layout), partial(from_grid, layout=output.layout))
              for output in outputs if output.layout is not Layout.CHANNELS_FIRST}
    last, computed = record(net, [output.module for output in outputs],
                            lambda copied: copied.forward_features(prepared), early, relays=relays)
    return last, [maps if output.element is None else maps[output.element]
                  for output, maps in zip(outputs, computed, strict=True)]


def _fixed(net: nn.Module, output: StageOutput, features: Tensor) -> Any:
    """The network with the output of a stage replaced by `features`."""
    return with_output(net, output.module, from_grid(features, output.layout), output.element)


def is_pooled_linear(net: Any, info: TimmInfo) -> bool:
    """Whether the head is global average pooling + one linear layer; tested numerically unless on the meta device."""
    if info.linear is None or next(net.parameters()).is_meta:
        return info.linear is not None
    linear, training = net.get_submodule(info.linear), net.training
    # Signed and uneven, so that an activation or another pooling in the head shows.
    count = 2 * info.last.channels * 3 * 2
    features = torch.arange(count, dtype=torch.float32).mul(0.7).sin().view(2, info.last.channels, 3, 2)
    net.eval()
    with torch.no_grad():
        logits = net.forward_head(from_grid(features.clone(), info.layout))
        same = torch.allclose(logits, linear(features.mean((2, 3))), rtol=1e-4, atol=1e-5)
    net.train(training)
    return same


class Truncated(Classifier):
    """timm's `base` up to its `depth`-th stage after the stem, global average pooling, linear.

    net: the whole network; it is taken over, and what lies behind the cut is removed from it.
    Raises UsageError when the base has fewer stages.
    """

    net: Any

    def __init__(self, base: str, depth: int, net: nn.Module, classes: int, mean: tuple[float, ...],
                 std: tuple[float, ...]) -> None:
        super().__init__(mean, std)
        self._outputs = timm_info(base).outputs[: cut(base, depth)]
        self.stages = tuple(output.stage for output in self._outputs)
        self.net = _prune(net, names_before_cut(base, depth))
        self.classifier = nn.Linear(self.stages[-1].channels, classes)

    def forward_stages(self, prepared: Tensor) -> tuple[Tensor, ...]:
        return tuple(_read(self.net, self._outputs, prepared, early=True)[1])

    def stages_from(self, prepared: Tensor, stage: int, features: Tensor) -> Tensor:
        return _read(_fixed(self.net, self._outputs[stage], features), self._outputs, prepared, early=True)[1][-1]

    def stages_until(self, prepared: Tensor, stage: int) -> Tensor:
        return _read(self.net, (self._outputs[stage],), prepared, early=True)[1][0]

    def forward_head(self, features: Tensor) -> Tensor:
        return self.classifier(features.mean(dim=(2, 3)))

    @property
    def pooled_linear(self) -> nn.Linear:
        return self.classifier


def cut(base: str, depth: int) -> int:
    """Number of the base's stages that are kept, the stem included. Raises UsageError when the base has fewer than
    `depth` stages after its stem."""
    if not base:
        raise UsageError("A truncated student needs the name of the timm model whose first stages it keeps.")
    info, possible = timm_info(base), stages_after_stem(base)
    if not 1 <= depth <= possible:
        raise UsageError(f"{base} has {possible} stages after its stem, so depth must be between 1 and {possible}, "
                         f"not {depth}.")
    return info.stem + depth


def stages_after_stem(base: str) -> int:
    """Number of stages of a timm network after its stem. Raises UsageError for an unknown one."""
    info = timm_info(base)
    return len(info.outputs) - info.stem


@lru_cache(maxsize=64)
def names_before_cut(base: str, depth: int) -> frozenset[str]:
    """Names of the weights that the stages up to the cut are computed with, and of the modules that give the stages: a
    stage can be an activation in front of a block's first weights (NASNet, Xception)."""
    info = timm_info(base)
    outputs = info.outputs[: cut(base, depth)]
    net = create(base, classes=2, device="meta").eval()
    with torch.no_grad(), FlopCounter(net) as counter:
        _read(net, outputs, meta_image(info.size), early=True)
    return frozenset(counter.weights_used) | {output.module for output in outputs}


def _prune(net: nn.Module, used: frozenset[str]) -> nn.Module:
    """Put an empty layer in place of every module with weights in which nothing of these names lies."""
    needed = {name.rsplit(".", up)[0] for name in used for up in range(name.count(".") + 1)}
    for name, module in list(net.named_modules()):
        for child, part in list(module._modules.items()):
            if part is not None and [*part.parameters()] and (f"{name}.{child}" if name else child) not in needed:
                # Slices are taken of containers, also where nothing of them is used.
                empty = next((kind for kind in (nn.Sequential, nn.ModuleList) if isinstance(part, kind)), nn.Identity)
                module._modules[child] = empty()
    return net
