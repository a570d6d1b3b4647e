"""The Python interface, as `import kd` gives it: distil, compare and explain in a script or a notebook."""

from kd.api.distillation import Experiment, distill, settings
from kd.api.explanation import HeatMaps, explain
from kd.datasets.arrays import Arrays
from kd.errors import UsageError
from kd.models.wrapped import wrap

__all__ = ["Arrays", "Experiment", "HeatMaps", "UsageError", "distill", "explain", "settings", "wrap"]
