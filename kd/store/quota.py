"""Quotas of the caches, each set by an environment variable."""

import os

from kd.errors import UsageError

GB = 10**9


def quota_of(variable: str, default: float) -> int:
    """Quota of a cache in bytes: the gigabytes in an environment variable, `default` where it is not set or empty.

    Raises UsageError unless the variable is a number from 0 up.
    """
    given = os.environ.get(variable) or str(default)
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise UsageError(f"{variable} must be a number of gigabytes, 0 or more, not {given!r}.")
    return int(gigabytes * GB)
