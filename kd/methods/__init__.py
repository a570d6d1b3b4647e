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

__all__ = [
    "METHODS",
    "Hyperparameter",
    "Method",
    "MethodInfo",
    "Shapes",
    "TeacherOutputs",
    "build",
    "check",
    "complete",
]


def complete(name: str, args: Mapping[str, float]) -> dict[str, float]:
    """`args` with the method's defaults filled in. Raises UsageError for unknown or out-of-range settings."""
    knobs = METHODS[name].info.hyperparameters
    for key, value in args.items():
        if key not in knobs:
            raise unknown(f"setting of method {name!r}", key, knobs) if knobs else UsageError(
                f"Method {name!r} has no settings, so {key}={value:g} means nothing to it. Leave it out.")
        if not knobs[key].low <= value <= knobs[key].high:
            raise UsageError(f"{key} must be between {knobs[key].low:g} and {knobs[key].high:g}, not {value:g}.")
    return {key: float(args.get(key, knob.default)) for key, knob in knobs.items()}


def build(name: str, args: Mapping[str, float]) -> Method:
    """The method with its settings. Raises UsageError as `complete` does."""
    return METHODS[name](**complete(name, args))


def check(name: str, classes: int) -> str:
    """What there is to say of a method on a data set of this many classes; empty when it is as its paper has it.

    Raises UsageError where it would silently learn nothing from the teacher.
    """
    facts = METHODS[name].info
    if classes != 2:
        return ""
    if facts.multiclass_only:
        raise UsageError(f"{facts.title} cannot be had on two classes: {facts.binary_note}")
    return str(facts.binary_note)
