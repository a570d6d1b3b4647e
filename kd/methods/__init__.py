"""Distillation methods by name. A new one: a class like those here, and one line below."""

from collections.abc import Mapping
from typing import Any

from kd.errors import UsageError, unknown
from kd.methods.base import Knob, Method, MethodFacts
from kd.methods.kd import SoftTargets
from kd.methods.supervised import Supervised
from kd.registry import Registry

METHODS: Registry[Any] = Registry("method")
METHODS.add("supervised")(Supervised)
METHODS.add("kd")(SoftTargets)

__all__ = ["METHODS", "Knob", "Method", "MethodFacts", "build", "complete"]


def complete(name: str, args: Mapping[str, float]) -> dict[str, float]:
    """`args` with the method's defaults filled in. Raises UsageError for unknown or out-of-range settings."""
    knobs = METHODS[name].facts.knobs
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
