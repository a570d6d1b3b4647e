"""The two lanes of tests: `make test` runs one network of a kind, `make test-slow` the others."""

import pytest


def slow(*values: object) -> list[object]:
    """Parameters for the slow lane."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]
