"""Kinds of values in stored JSON objects, and what in an object is of another kind than expected."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 2**63  # whole numbers beyond it overflow a float, a clock or a table


@dataclass(frozen=True)
class Kind:
    """A kind of value. words: what it is, `a number`. wrong: what is wrong with a value, empty where nothing is."""

    words: str
    wrong: Callable[[Any], str]


def _kind(words: str, fits: Callable[[Any], bool]) -> Kind:
    return Kind(words, lambda value: "" if fits(value) else f"is {shortened(value)}, not {words}")


def shortened(value: Any, most: int = 40) -> str:
    """A value in few letters, for a message."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and not abs(value) < LARGEST:
        return "a number of too many digits"
    text = "null" if value is None else repr(value)
    return text if len(text) <= most else text[:most - 1] + "…"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def _number(value: Any) -> bool:
    return _whole(value) or (isinstance(value, float) and math.isfinite(value))


WHOLE = _kind("a whole number", _whole)
COUNT = _kind("a whole number from 0 up", lambda value: _whole(value) and value >= 0)
POSITIVE = _kind("a whole number from 1 up", lambda value: _whole(value) and value >= 1)
NUMBER = _kind("a number", _number)
FLOAT = _kind("a number", lambda value: _number(value) or isinstance(value, float))  # also nan and infinities
TEXT = _kind("text", lambda value: isinstance(value, str))
TRUTH = _kind("true or false", lambda value: isinstance(value, bool))


def optional(kind: Kind) -> Kind:
    """A value of a kind, or null."""
    return Kind(f"{kind.words} or null", lambda value: "" if value is None else kind.wrong(value))


def list_of(kind: Kind, least: int = 0) -> Kind:
    """A list of at least so many values of a kind."""
    def wrong(value: Any) -> str:
        if not isinstance(value, list):
            return f"is {shortened(value)}, not a list"
        if len(value) < least:
            return f"has {len(value)} entries, not {least} or more"
        return next((text for one in value if (text := kind.wrong(one))), "")

    return Kind("a list", wrong)


def table_of(kind: Kind) -> Kind:
    """An object whose values are all of a kind."""
    def wrong(value: Any) -> str:
        if not isinstance(value, dict):
            return f"is {shortened(value)}, not an object"
        return next((f"{shortened(name)} {text}" for name, one in value.items() if (text := kind.wrong(one))), "")

    return Kind("an object", wrong)


def object_of(required: Mapping[str, Kind], others: Mapping[str, Kind] | None = None) -> Kind:
    """An object with values of these kinds: all of `required`, and of `others` those that it has. What else it has is
    not looked at."""
    def wrong(value: Any) -> str:
        if not isinstance(value, dict):
            return f"is {shortened(value)}, not an object"
        if missing := [name for name in required if name not in value]:
            return f"has no {missing[0]}"
        return next((f"{name} {text}" for name, kind in {**required, **(others or {})}.items()
                     if name in value and (text := kind.wrong(value[name]))), "")

    return Kind("an object", wrong)
