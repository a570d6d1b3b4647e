"""Models built from specs, with their initial weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch

from kd.errors import UsageError
from kd.models import frozen, heads, hub, weights
from kd.models.base import Classifier
from kd.models.masked_student import MaskedStudent, UNet
from kd.models.plain import Plain
from kd.models.timm_info import FORWARD_ERRORS, create, reason, timm_info
from kd.models.timm_models import TimmClassifier, Truncated, cut
from kd.spec import OF_RUN, RunSpec
from kd.torch_utils.flops import meta_image
from kd.torch_utils.rng import isolated_rng

_SCALINGS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "half": ((0.5,) * 3, (0.5,) * 3)}
SIZES = (32, 48, 64, 75, 96, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512)


@dataclass(frozen=True)
class Architecture:
    """The fields of a spec that determine a model's architecture; those that do not apply have their zero value.

    input_size: side of the images that the network computes on. mask_net: depth and width of the mask network in front
    of it, fill and area of its mask; or None.
    """

    model: str
    depth: int
    width: int
    base: str
    image_size: int
    input_size: int
    normalisation: str
    classes: int
    mask_net: tuple[int, int, str, float] | None = None

    @property
    def label(self) -> str:
        """The model's name for sentences."""
        return {"plain": f"plain of depth {self.depth}",
                "truncated": f"the first {self.depth} stages of {self.base}"}.get(self.model, self.model)


def architecture(spec: RunSpec, classes: int) -> Architecture:
    """Architecture of a spec. Raises UsageError when its model is unknown or cannot be cut at its depth."""
    chain, truncated = spec.model == "plain", spec.model == "truncated"
    if truncated:
        cut(spec.base, spec.depth)
    elif not chain:
        timm_info(spec.model)
    mask_net = (spec.mask_net_depth, spec.mask_net_width, spec.mask_fill, spec.mask_area)
    return Architecture(spec.model, spec.depth if chain or truncated else 0, spec.width if chain else 0,
                        spec.base if truncated else "", spec.image_size, spec.model_size, spec.normalisation,
                        classes, mask_net if spec.mask_net_depth else None)


def build(spec: RunSpec, classes: int) -> Classifier:
    """Model of a spec with its initial weights: seeded random ones, or those of `spec.pretrained`, with a classifier
    that starts at zero unless the weights have one for so many classes. Its frozen stages are frozen.

    Raises UsageError when the model or its weights are unknown, do not fit each other or are not available, or when the
    model cannot take images of `spec.image_size`.
    """
    what = architecture(spec, classes)
    require_freezable(spec, classes)
    model = _initial(spec, what, classes)
    if spec.frozen_stages:
        frozen.freeze(unwrap(model), spec.frozen_stages, spec.image_size)
    return model


def require_freezable(spec: RunSpec, classes: int) -> None:
    """Raise UsageError where a spec treats pretrained weights apart and has none, or freezes more stages than there
    are, and as `build` does."""
    model = meta_model(architecture(spec, classes))
    if spec.pretrained == "none" and (spec.frozen_stages or spec.backbone_rate != 1):
        name = "frozen_stages" if spec.frozen_stages else "backbone_rate"
        raise UsageError(f"{name} is {getattr(spec, name):g}, but the model starts from random weights, which must all "
                         "be trained. Name pretrained weights (hub or a file), or leave it at its default.")
    frozen.require_stages(unwrap(model), spec.frozen_stages)


def stage_count(spec: RunSpec, classes: int) -> int:
    """Number of stages of a spec's model. Raises UsageError as `build` does."""
    return len(meta_model(architecture(spec, classes)).stages)


def backbone_parameters(model: Classifier, spec: RunSpec, classes: int) -> list[torch.nn.Parameter]:
    """Parameters of a spec's model that start from pretrained weights; none where it has none."""
    if spec.pretrained == "none":
        return []
    return heads.backbone_parameters(unwrap(model), classifier_layers(architecture(spec, classes)))


def _initial(spec: RunSpec, what: Architecture, classes: int) -> Classifier:
    if spec.pretrained == "hub":
        return _from_hub(what, spec.seed)
    model = assemble(what, spec.seed)
    if spec.pretrained != "none":
        heads.start_at_zero(unwrap(model), classifier_layers(what))
        model.initial_notes = weights.start(unwrap(model), *_initial_file(spec.pretrained, what))
    return model


def _initial_file(path: str, what: Architecture) -> tuple[Path, str, str, tuple[str, ...], frozenset[str]]:
    """Arguments of `weights.start` behind the model."""
    spare = _base_keys(what.base, what.classes) if what.base else frozenset()
    network = what.base or ("" if what.model == "plain" else what.model)
    return Path(path), what.label, network, classifier_layers(what), spare


def check_weights(spec: RunSpec, classes: int) -> tuple[str, ...]:
    """Sentences on what a spec's model takes of its weights file; none where it has no file. Computes nothing. Raises
    UsageError when the file cannot be read or does not fit, and as `build` does."""
    if spec.pretrained in ("none", "hub") or spec.pretrained.startswith(OF_RUN):
        return ()
    return _checked_weights(architecture(spec, classes), spec.pretrained, spec.pretrained_fingerprint)


@lru_cache(maxsize=64)
def _checked_weights(what: Architecture, path: str, _fingerprint: str) -> tuple[str, ...]:
    return weights.check(unwrap(meta_model(what)), *_initial_file(path, what))


def unwrap(model: Classifier) -> Classifier:
    """The model without the mask network in front of it, where it has one."""
    return model.student if isinstance(model, MaskedStudent) else model


def build_untrained(spec: RunSpec, classes: int) -> Classifier:
    """Model of a spec with random weights, to be filled from a run's file. Never needs a network."""
    return assemble(architecture(spec, classes), spec.seed)


def stage_shapes(spec: RunSpec, classes: int) -> tuple[tuple[int, int, int], ...]:
    """(channels, height, width) of every stage for images of the working size, without computing anything.

    Raises UsageError as `build` does.
    """
    return _stage_shapes(architecture(spec, classes))


@lru_cache(maxsize=256)
def _stage_shapes(what: Architecture) -> tuple[tuple[int, int, int], ...]:
    with torch.no_grad():
        stages = meta_model(what)(meta_image(what.image_size)).stages
    return tuple((c, h, w) for _, c, h, w in (maps.shape for maps in stages))


def wants_float32(spec: RunSpec) -> bool:
    """Whether the model has layers that a processor trains slower in bfloat16, grouped (depthwise) convolutions, or
    with wrong gradients, convolutions of three dimensions (lambda networks). Raises UsageError as `build` does."""
    layers = meta_model(architecture(spec, 2)).modules()
    return any(isinstance(layer, torch.nn.Conv3d) or (isinstance(layer, torch.nn.Conv2d) and layer.groups > 1)
               for layer in layers)


@lru_cache(maxsize=32)
def meta_model(what: Architecture) -> Classifier:
    """Model on the meta device, in eval mode; shared, so not to be changed.

    Raises UsageError when it cannot take images of the architecture's input size.
    """
    with torch.device("meta"):
        model = assemble(what, 0, device="meta").eval()
    problem = _misfit(model, what.image_size)
    if problem is None:
        return model
    name = "input size" if model.input_size else "image size"
    unwrap(model).input_size = 0  # it is only tried at other sizes from here on
    fitting = next((size for size in _nearest(what) if _misfit(model, size) is None), None)
    way_out = f"Set the {name} to {fitting} px, or choose another model." if fitting else "Choose another model."
    raise UsageError(f"{what.label} cannot take images of {what.input_size} px ({problem}). {way_out}")


def _nearest(what: Architecture) -> list[int]:
    """Input sizes to try next: larger ones first, but no larger than the images where the model downsamples them."""
    most = what.image_size if what.input_size < what.image_size else SIZES[-1]
    larger = [size for size in SIZES if what.input_size < size <= most]
    return larger + [size for size in reversed(SIZES) if size < what.input_size]


def fitting_sizes(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Those of these image sizes that a timm network takes. Raises UsageError where it is unknown."""
    with torch.device("meta"):
        model = assemble(architecture(RunSpec(model=name), classes=2), 0, device="meta").eval()
    return tuple(size for size in sizes if _misfit(model, size) is None)


def _misfit(model: Classifier, size: int) -> str | None:
    try:
        with torch.no_grad():
            grids = [maps.shape[-1] for maps in model(meta_image(size)).stages]
    except FORWARD_ERRORS as error:
        return reason(error)
    if any(one < other for one, other in pairwise(grids)):
        return f"its grids become finer again, {', '.join(map(str, grids))} cells a side"
    return None


def assemble(what: Architecture, seed: int, device: str = "cpu", **pretrained: Any) -> Classifier:
    """Model of an architecture with seeded random weights; `pretrained` is passed to timm.

    A student behind a mask network has the same initial weights as without it.
    """
    model = _alone(what, seed, device, **pretrained)
    if what.mask_net is None:
        return model
    depth, width, fill, area = what.mask_net
    with isolated_rng(seed):
        return MaskedStudent(model, UNet(depth, width), fill, what.image_size, area)


def _alone(what: Architecture, seed: int, device: str, **pretrained: Any) -> Classifier:
    model = _network(what, seed, device, **pretrained)
    model.input_size = what.input_size if what.input_size < what.image_size else 0
    return model


def _network(what: Architecture, seed: int, device: str, **pretrained: Any) -> Classifier:
    mean, std = _scaling(what)
    with isolated_rng(seed):
        if what.model == "plain":
            return Plain(what.depth, what.width, what.classes, what.input_size, mean, std)
        net = create(what.base or what.model, what.classes, device, **pretrained)
        if what.base:
            return Truncated(what.base, what.depth, net, what.classes, mean, std)
        if not pretrained:
            heads.limit_spread(net, timm_info(what.model).classifier)
        return TimmClassifier(what.model, net, mean, std)


def _from_hub(what: Architecture, seed: int) -> Classifier:
    if what.model == "plain":
        raise UsageError("timm's hub has no weights for plain. Start from none, or from another plain run's weights.")
    name = what.base or what.model
    pretrained = hub.hub_arguments(name)
    try:
        model = assemble(what, seed, **pretrained)
    except (OSError, RuntimeError) as error:
        raise hub.download_failed(name, error) from error
    config: Any = timm.get_pretrained_cfg(name)
    if what.base or config.num_classes != what.classes:  # else timm's classifier is kept
        heads.start_at_zero(unwrap(model), classifier_layers(what))
    return model


def _scaling(what: Architecture) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if what.normalisation != "model":
        return _SCALINGS[what.normalisation]
    if what.model == "plain":
        return _SCALINGS["half"]
    parts = timm_info(what.base or what.model)
    return parts.mean, parts.std


def classifier_layers(what: Architecture) -> tuple[str, ...]:
    """Names of the layers that depend on the number of classes, in the model without a mask network."""
    if what.model == "plain" or what.base:
        return ("classifier",)
    return tuple(f"net.{name}" for name in timm_info(what.model).classifier)


@lru_cache(maxsize=16)
def _base_keys(base: str, classes: int) -> frozenset[str]:
    """All keys of a truncated student's whole base, as a run's file names them."""
    return frozenset(f"net.{name}" for name in create(base, classes, "meta").state_dict())


