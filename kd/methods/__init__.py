"""Distillation methods by name. A new one: a class like those here, and one line below."""

from collections.abc import Mapping
from typing import Any

from kd.errors import UsageError, unknown
from kd.methods.base import Hyperparameter, Method, MethodInfo, Shapes, Supervised, TeacherOutputs
from kd.methods.explanations import CATKD, E2KD
from kd.methods.features import AttentionTransfer, FitNet, SimilarityPreserving
from kd.methods.logits import DIST, DKD, KD, LogitStandardisation
from kd.methods.medtex import MEDTEX
from kd.registry import Registry
from kd.spec import IN_SAMPLE

METHODS: Registry[Any] = Registry("method")
METHODS.add("supervised")(Supervised)
METHODS.add("kd")(KD)
METHODS.add("logit-std")(LogitStandardisation)
METHODS.add("dkd")(DKD)
METHODS.add("dist")(DIST)
METHODS.add("at")(AttentionTransfer)
METHODS.add("fitnet")(FitNet)
METHODS.add("cat-kd")(CATKD)
METHODS.add("e2kd")(E2KD)
METHODS.add("sp")(SimilarityPreserving)
METHODS.add("medtex")(MEDTEX)

__all__ = ["METHODS", "Hyperparameter", "Method", "MethodInfo", "Shapes", "TeacherOutputs", "build", "check",
           "complete", "learns_unlabelled", "require_logits_only", "require_mixup", "require_unlabelled"]


def complete(name: str, args: Mapping[str, float]) -> dict[str, float]:
    """`args` with the method's defaults filled in. Raises UsageError for unknown or out-of-range settings."""
    known = METHODS[name].info.hyperparameters
    for key, value in args.items():
        if key not in known:
            raise unknown(f"setting of method {name!r}", key, known) if known else UsageError(
                f"Method {name!r} has no settings, so {key}={value:g} means nothing to it. Leave it out.")
        if not known[key].low <= value <= known[key].high:
            raise UsageError(f"{key} must be between {known[key].low:g} and {known[key].high:g}, not {value:g}.")
    return {key: float(args.get(key, setting.default)) for key, setting in known.items()}


def build(name: str, args: Mapping[str, float]) -> Method:
    """The method with its settings. Raises UsageError as `complete` does."""
    return METHODS[name](**complete(name, args))


def require_logits_only(name: str) -> None:
    """Raise UsageError unless the teacher's logits are all that a method needs, as out-of-fold soft targets have."""
    able = [other for other in METHODS if METHODS[other].needs_logits_only()]
    if name not in able:
        raise UsageError(f"Out-of-fold soft targets are logits, and method {name!r} needs more of its teacher. "
                         f"Choose one of {', '.join(able)}, or set soft_targets to teacher.")


def check(name: str, classes: int) -> str:
    """Note on a method for a data set of this many classes; empty where there is none.

    Raises UsageError where the student would learn nothing from the teacher.
    """
    info = METHODS[name].info
    if classes != 2:
        return ""
    if info.multiclass_only:
        raise UsageError(f"{info.title} cannot be had on two classes: {info.binary_note}")
    return str(info.binary_note)


def learns_unlabelled(name: str, mask_target: str = "none") -> bool:
    """Whether a student can learn by this method from images without labels. mask_target: that of its mask network."""
    return not _unlabelled_obstacle(name, mask_target)


def require_unlabelled(name: str, mask_target: str = "none") -> None:
    """Raise UsageError where a student cannot learn by this method from images without labels."""
    if reason := _unlabelled_obstacle(name, mask_target):
        raise UsageError(reason)


def require_mixup(name: str, soft_targets: str = IN_SAMPLE) -> None:
    """Raise UsageError where a method, with such soft targets, cannot train on mixtures of two images."""
    method = METHODS[name]
    if soft_targets != IN_SAMPLE:
        raise UsageError("Out-of-fold soft targets are those of a network that has not seen the image; of two mixed "
                         "images it may have seen one. Set mixup to 0, or soft_targets to teacher.")
    if method.needs_label:
        raise UsageError(f"{method.info.title} needs one label of every image, and an image mixed of two has two. Set "
                         "mixup to 0, or choose another method such as kd.")
    if method.needs_mask_net:
        raise UsageError(f"{method.info.title} learns where to look in one image, and mixup lays two over each other. "
                         "Set mixup to 0.")


def _unlabelled_obstacle(name: str, mask_target: str) -> str:
    method = METHODS[name]
    if not method.needs_teacher or method.needs_label:
        able = ", ".join(other for other in METHODS if METHODS[other].needs_teacher and not METHODS[other].needs_label)
        return (f"{method.info.title} needs the label of every image, so it cannot learn from unlabelled images. Set "
                f"unlabelled to none, or choose one of: {able}.")
    if method.needs_mask_net and mask_target == "outlines":
        return ("Unlabelled images have no outlines, which mask_target names as what the mask learns to point at. Set "
                "mask_target to sensitivity, or unlabelled to none.")
    return ""
