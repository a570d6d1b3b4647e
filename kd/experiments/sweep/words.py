"""Settings of a sweep's cell in words."""

from pathlib import Path

from kd.spec import NONE, REST

Value = str | int | float
Settings = dict[str, Value]


def describe(settings: Settings) -> str:
    """Settings in words: `kd, depth 3, alpha 0.4`, without names for methods and students."""
    return ", ".join(filter(None, (_words(name, value) for name, value in settings.items())))


def _words(name: str, value: Value) -> str:
    if name == "unlabelled":
        return {NONE: "", REST: "rest unlabelled"}.get(str(value), f"unlabelled {Path(str(value)).name}")
    return value if isinstance(value, str) else f"{name.replace('_', ' ')} {value:g}"
