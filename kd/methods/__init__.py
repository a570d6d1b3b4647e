"""Distillation methods by name. A new one: a class like those here, and one line below."""

from collections.abc import Mapping
from typing import Any

from kd.errors import UsageError, unknown
from kd.methods.base import Knob, Method, MethodFacts, Shapes, Supervised, TeacherOutputs
from kd.methods.explanations import ClassAttention, ExplanationEnhanced
from kd.methods.features import AttentionTransfer, Hint, SimilarityPreserving
from kd.methods.logits import DecoupledTargets, Relations, SoftTargets, StandardisedTargets
from kd.methods.medtex import MedTex
from kd.registry import Registry

METHODS: Registry[Any] = Registry("method")
METHODS.add("supervised")(Supervised)
METHODS.add("kd")(SoftTargets)
METHODS.add("kd-standardised")(StandardisedTargets)
METHODS.add("dkd")(DecoupledTargets)
METHODS.add("dist")(Relations)
METHODS.add("at")(AttentionTransfer)
METHODS.add("hint")(Hint)
METHODS.add("cat-kd")(ClassAttention)
METHODS.add("e2kd")(ExplanationEnhanced)
METHODS.add("sp")(SimilarityPreserving)
METHODS.add("medtex")(MedTex)

__all__ = ["METHODS", "Knob", "Method", "MethodFacts", "Shapes", "TeacherOutputs", "build", "check", "complete"]


def complete(name: str, args: Mapping[str, float]) -> dict[str, float]:
    """`args` with the method's defaults filled in. Raises UsageError for unknown or out-of-range settings."""
    knobs = METHODS[name].info.knobs
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
    if facts.refuses_two:
        raise UsageError(f"{facts.title} cannot be had on two classes: {facts.two_classes}")
    return str(facts.two_classes)
