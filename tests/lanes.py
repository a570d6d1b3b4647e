"""The two lanes of tests: `make test` runs one network of a kind, `make test-slow` the others."""

import pytest


def slow(*values: object) -> list[object]:
    """Parameters for the slow lane; a tuple is the values of several names."""
    return [pytest.param(*value if isinstance(value, tuple) else (value,), marks=pytest.mark.slow) for value in values]
