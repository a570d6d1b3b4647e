"""Old names of methods, settings, hyper-parameters and weights, so that runs stored by earlier versions stay readable.

The one table of renamings: `current_spec`, `current_plan` and `current_axes` are applied wherever a stored spec or
sweep is read, `current_weights` to the weights of a masked student, and nowhere else. `FORMAT` is written into every
`spec.json`; a file without it was written before the renaming.
"""

import re
from collections.abc import Mapping
from typing import Any

FORMAT = 2
"""Version of `spec.json` and of sweep files. 1: the names on the left below."""

METHODS = {"hint": "fitnet", "kd-standardised": "logit-std"}
SETTINGS = {"explainer_depth": "mask_net_depth", "explainer_width": "mask_net_width", "explainer_fill": "mask_fill",
            "stretch": "equal_steps"}
HYPERPARAMETERS = {"rate": "mask_prior", "bottleneck": "mask_penalty", "keep": "sufficiency",
                   "remove": "comprehensiveness", "variation": "total_variation",
                   "relaxation": "concrete_temperature", "joint": "student_gradient"}
WEIGHTS = {"explainer.": "mask_net.", "average": "mean_image"}  # how names in a masked student's state dict begin


def current_spec(values: Mapping[str, Any]) -> dict[str, Any]:
    """The stored settings of a run or a distillation under today's names, without their format version."""
    found = {SETTINGS.get(name, name): value for name, value in values.items() if name != "format"}
    if values.get("format", 1) >= FORMAT:
        return found
    if "method" in found:
        found["method"] = METHODS.get(found["method"], found["method"])
    if "method_args" in found:
        found["method_args"] = {HYPERPARAMETERS.get(name, name): value for name, value in found["method_args"].items()}
    return found


def current_axes(axes: Mapping[str, Any]) -> dict[str, Any]:
    """The axes of a stored sweep, or one cell's settings, under today's names.

    axes: name of a setting or hyper-parameter to its value, or to a list of values.
    """
    found = {}
    for name, value in axes.items():
        today = HYPERPARAMETERS.get(name, SETTINGS.get(name, name))
        if today == "method":
            value = METHODS.get(value, value) if isinstance(value, str) else [METHODS.get(one, one) for one in value]
        found[today] = value
    return found


def current_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict of a masked student under today's names."""
    return {next((new + name[len(old):] for old, new in WEIGHTS.items() if name.startswith(old)), name): value
            for name, value in state.items()}


def current_advice(warning: str) -> str:
    """A stored warning about collapsed masks, with the hyper-parameters to change under today's names."""
    if not warning.startswith("The mask "):  # as format 1 began it
        return warning
    finding, dot, advice = warning.partition(". ")
    names = "|".join(HYPERPARAMETERS)
    advice = re.sub(rf"\b({names})\b", lambda match: HYPERPARAMETERS[match[0]], advice)
    return finding.replace("a picture", "an image") + dot + advice
