"""Explainable knowledge distillation of image classifiers.

Importing this package loads nothing else and changes nothing of the process.
"""

from kd import version

__version__ = version.VERSION

__all__ = ["__version__"]
