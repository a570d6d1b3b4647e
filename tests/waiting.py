"""Waiting for another thread or process, for as long as a machine may take that others use too."""

import time
from collections.abc import Callable

PATIENCE = 120.0  # seconds; only a test that fails waits for all of it


def wait_for(condition: Callable[[], object]) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(found)
