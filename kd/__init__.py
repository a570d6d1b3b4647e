"""Explainable knowledge distillation of image classifiers.

Importing this package loads nothing else and changes nothing of the process; each public name is loaded when it is
first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kd import version

if TYPE_CHECKING:
    from kd import losses as losses
    from kd.api import Arrays as Arrays
    from kd.api import Experiment as Experiment
    from kd.api import HeatMaps as HeatMaps
    from kd.api import UsageError as UsageError
    from kd.api import distill as distill
    from kd.api import explain as explain
    from kd.api import settings as settings
    from kd.api import wrap as wrap

__version__ = version.VERSION
__all__ = ["Arrays", "Experiment", "HeatMaps", "UsageError", "__version__", "distill", "explain", "losses",
           "settings", "wrap"]


def __getattr__(name: str) -> Any:
    """A public name, loaded now."""
    if name == "losses":
        return import_module("kd.losses")
    if name in __all__:
        return getattr(import_module("kd.api"), name)
    raise AttributeError(f"module 'kd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
