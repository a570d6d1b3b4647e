"""Wrapper that makes any torch module a classifier with readable stages, so that it can be explained."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import UsageError, unknown
from kd.models.base import Classifier, Stage
from kd.observation import Observation
from kd.torch_utils.overrides import record, with_output

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Wrapped(Classifier):
    """A user's network as a classifier, with features read at named stages.

    net: takes normalised RGB [B, 3, S, S] and returns logits [B, K]; it is taken over.
    classes: their names. size: of the images it is made for, in pixels.
    """

    net: nn.Module

    def __init__(self, net: nn.Module, stages: tuple[Stage, ...], classes: tuple[str, ...], size: int,
                 mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__(mean, std)
        self.net, self.stages, self.classes, self.size = net, stages, classes, size

    def forward(self, images: Tensor, cams: bool = False, stages: bool = True) -> Observation:
        logits, features = _read(self.net, [stage.name for stage in self.stages], self.prepare(images))
        return Observation(logits, features if stages else (),
                           self.class_activation_maps(features[-1]) if cams else None)

    def forward_stages(self, prepared: Tensor) -> tuple[Tensor, ...]:
        return _read(self.net, [stage.name for stage in self.stages], prepared)[1]

    def forward_head(self, features: Tensor) -> Tensor:
        # The layers in front of the last stage run on a black image: what they give is not used.
        side = features.shape[-1] * self.stages[-1].reduction
        return self._with(len(self.stages) - 1, features)(features.new_zeros(len(features), 3, side, side))

    def stages_from(self, prepared: Tensor, stage: int, features: Tensor) -> Tensor:
        return _read(self._with(stage, features), [self.stages[-1].name], prepared)[1][0]

    def forward_from(self, images: Tensor, stage: int, features: Tensor) -> Tensor:
        return self._with(stage, features)(self.prepare(images))

    def _with(self, stage: int, features: Tensor) -> Any:
        """The network with a stage that gives these features."""
        return with_output(self.net, self.stages[stage].name, features.clone())


def _read(net: nn.Module, names: Sequence[str], prepared: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Logits, and outputs of these modules."""
    logits, features = record(net, names, lambda copied: copied(prepared), copies=True)
    return logits, tuple(features)


def wrap(module: nn.Module, stages: Sequence[str] | None = None, mean: Sequence[float] | None = None,
         std: Sequence[float] | None = None, classes: Sequence[str] | None = None, size: int = 224) -> Wrapped:
    """A frozen copy of a module in eval mode, as a classifier; the module itself is unchanged.

    module: takes RGB [B, 3, size, size] and returns logits [B, K]. stages: names of submodules whose outputs are
    feature maps [B, C, H, W], from the input on (as `module.get_submodule` takes them). By default the last module on
    each grid is taken, without a stem that only halves the image: layer1 to layer4 of a ResNet. mean, std: the scaling
    that the weights expect of images in 0..1, by default what timm states of its models, ImageNet's for models of
    torchvision, and none (0 and 1) for others. classes: their names, by default their numbers. Raises UsageError.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"Only a torch module can be wrapped, not {type(module).__name__}.")
    try:
        net = copy.deepcopy(module).eval().requires_grad_(False)
    except RuntimeError as error:
        raise UsageError(f"{type(module).__name__} cannot be copied ({error}). Wrap it before tensors that need a "
                         "gradient are kept on it.") from error
    default_mean, default_std = _scaling(module)
    scaling = tuple(default_mean if mean is None else mean), tuple(default_std if std is None else std)
    for name, values in zip(("mean", "std"), scaling, strict=True):
        if len(values) != 3:
            raise UsageError(f"{name} must be three numbers, one for each colour, not {values}.")
    logits, outputs = _outputs(net, size)
    wanted = [stages] if isinstance(stages, str) else stages
    names = _named(net, list(wanted), outputs) if wanted is not None else _found(net, outputs, size)
    _require_readable(net, names, size)
    taken = tuple(Stage(name, outputs[name].shape[1], round(size / outputs[name].shape[-1])) for name in names)
    known = tuple(map(str, range(logits.shape[1]) if classes is None else classes))
    if len(known) != logits.shape[1]:
        raise UsageError(f"{type(module).__name__} gives logits of {logits.shape[1]} classes, but {len(known)} are "
                         "named.")
    wrapped = Wrapped(net, taken, known, size, *scaling).to(next(net.parameters(), logits).device)
    return wrapped.eval()


def _scaling(module: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    config = getattr(module, "pretrained_cfg", None)
    if isinstance(config, Mapping) and {"mean", "std"} <= set(config):
        return tuple(config["mean"]), tuple(config["std"])
    return IMAGENET if type(module).__module__.startswith("torchvision.models") else ((0.0,) * 3, (1.0,) * 3)


def _outputs(net: nn.Module, size: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits of a black image, and by name, in the order in which they end, the maps [1, C, H, W] on a square grid
    that modules give; not those of a module that is called several times."""
    found: dict[str, Tensor] = {}
    calls: dict[str, int] = {}

    def note(name: str, output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        if isinstance(output, Tensor) and output.ndim == 4 and 1 < output.shape[-1] == output.shape[-2] <= size:
            found[name] = output

    handles = [module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
               for name, module in net.named_modules() if name]
    try:
        with torch.no_grad():
            logits = net(_black(net, size))
    except Exception as error:  # whatever a network raises that is given an image it was not made for
        raise UsageError(f"{type(net).__name__} cannot take RGB images [1, 3, {size}, {size}] "
                         f"({type(error).__name__}: {error}). Give the size that it is made for.") from error
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shown = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(f"{type(net).__name__} must return logits [B, K], not {shown}.")
    return logits, {name: output for name, output in found.items() if calls[name] == 1}


def _black(net: nn.Module, size: int) -> Tensor:
    """An image [1, 3, size, size] where the network's weights are."""
    like = next(net.parameters(), torch.zeros(()))
    return torch.zeros(1, 3, size, size, dtype=like.dtype, device=like.device)


def _require_readable(net: nn.Module, names: Sequence[str], size: int) -> None:
    """Raise UsageError unless the network calls its stages as its submodules, and not by references of its own."""
    with torch.no_grad():
        outputs = record(net, names, lambda copied: copied(_black(net, size)))[1]
    unread = [name for name, output in zip(names, outputs, strict=True) if output is None]
    if unread:
        raise UsageError(f"{type(net).__name__} does not call {', '.join(unread)} as its submodule but through a list "
                         "or a compiled function, where it cannot be read. Name other stages.")


def _named(net: nn.Module, names: list[str], outputs: Mapping[str, Tensor]) -> list[str]:
    """The requested stages. Raises UsageError unless they can be read in this order."""
    known = dict(net.named_modules())
    for name in names:
        if name not in known:
            raise unknown("stage", name, outputs)
        if name not in outputs:
            raise UsageError(f"The module {name!r} gives no feature maps [B, C, H, W] on a square grid, or is called "
                             f"several times. Name others, such as {', '.join(list(outputs)[-3:])}.")
    order = [name for name in outputs if name in names]
    if not names or names != order:
        raise UsageError("Name at least one stage." if not names else
                         f"Stages must be named once each and from the input on: {', '.join(order)}.")
    return names


def _found(net: nn.Module, outputs: Mapping[str, Tensor], size: int) -> list[str]:
    """The last module on each grid, among the network's parts and the parts of a chain over several grids."""
    last: dict[int, str] = {}
    for name in _parts(net, "", outputs):
        last[outputs[name].shape[-1]] = name
    deep = [name for side, name in last.items() if size / side > 2]
    if not deep and not last:
        raise UsageError(f"{type(net).__name__} has no stage that is found by itself. Name some: "
                         f"kd.wrap(module, stages=[…]), of {', '.join(outputs) or 'which it seems to have none'}.")
    return deep or [*last.values()]


def _parts(net: nn.Module, prefix: str, outputs: Mapping[str, Tensor]) -> list[str]:
    """Names of the modules with readable maps, from the input on, but for pooling; in place of a chain
    (`nn.Sequential`) whose parts lie on three grids or more, its parts."""
    names: list[str] = []
    for child, module in net.named_children():
        name = prefix + child
        inner = _parts(module, f"{name}.", outputs) if isinstance(module, nn.Sequential) else []
        grids = {outputs[part].shape[-1] for part in inner}
        pools = isinstance(module, nn.AdaptiveAvgPool2d | nn.AvgPool2d)
        names += inner if len(grids) > 2 else [name] if name in outputs and not pools else inner
    return sorted(names, key=list(outputs).index)
