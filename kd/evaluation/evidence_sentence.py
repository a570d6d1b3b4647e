"""Sentence on whether a model needs the evidence, to stand beside every number of localisation. Without torch."""

from collections.abc import Mapping
from typing import Any

HARDLY = 0.1  # of the decisions: fewer that hang on the evidence are few
LARGELY = 0.5  # of the evidence: a control that covers as much of it changes nearly the same pixels
MOSTLY = 0.9  # of the decisions: a model that keeps as many on a blurred image hardly looks at it


def evidence_sentences(found: Mapping[str, Any] | None) -> dict[str, str]:
    """A sentence by role, of the section "evidence" of `kd.evaluation.explanation_store.load_all`; empty where it is
    missing or the test images have no masks."""
    return {role: sentence(role, own) for role, own in (found or {}).items() if "kept" in own}


def sentence(role: str, own: Mapping[str, Any]) -> str:
    """`Blurring the evidence away keeps 93 % (90 to 96) of the teacher's decisions, blurring its mirrored region away
    97 % (95 to 99): the teacher hardly uses the evidence, so a faithful map need not point at it.`"""
    kept = own["kept"]
    return (f"Blurring the evidence away keeps {share(kept['without'])} of the {role}'s decisions, blurring its "
            f"mirrored region away {share(kept['mirrored'])}: {_verdict(role, own['mirrored_minus_without'])}"
            + _weak_control(own["overlap"]) + _without_an_image(kept["blurred"]))


def _verdict(role: str, needed: Mapping[str, Any]) -> str:
    """What the paired difference of the two allows to say; a difference only where its interval excludes 0."""
    points, low = f"{100 * needed['mean']:.0f} %", needed["low"]
    if low is None:
        return "too few images to say whether it uses the evidence."
    if low <= 0:
        return f"nothing shows that the {role} uses the evidence, so a faithful map need not point at it."
    if needed["mean"] < HARDLY:
        return f"the {role} hardly uses the evidence, so a faithful map need not point at it."
    return f"{points} of its decisions hang on the evidence, and there a faithful map points at it."


def _weak_control(overlap: float) -> str:
    """A warning where the mirrored region is largely the evidence itself, as of findings in the middle."""
    return (f" The mirrored region covers {100 * overlap:.0f} % of the evidence itself, so it is a weak control."
            if overlap >= LARGELY else "")


def _without_an_image(blurred: Mapping[str, Any]) -> str:
    """A warning where decisions hardly depend on the image at all."""
    return f" Blurring the whole image keeps {share(blurred)}." if blurred["mean"] >= MOSTLY else ""


def share(one: Mapping[str, Any]) -> str:
    """`93 % (90 to 96)`, or without the interval where there is none."""
    ends = "" if one["low"] is None else f" ({100 * one['low']:.0f} to {100 * one['high']:.0f})"
    return f"{100 * one['mean']:.0f} %{ends}"
