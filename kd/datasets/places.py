"""Places that hold no data set: whole drives, and what the system shows of itself as files."""

import os
from pathlib import Path

from kd.errors import UsageError

SYSTEM = ("/proc", "/sys", "/dev")


def require_place(path: Path) -> None:
    """Raise UsageError for the root of a drive and for anything inside SYSTEM, where listing files has no end. Links
    are followed; memory disks mounted below /dev are places like others."""
    real = Path(os.path.realpath(path))
    if real == Path(real.anchor):
        raise UsageError(f"{path} is a whole drive, not a data set. Give the folder of the images.")
    if is_system(real):
        raise UsageError(f"{path} is a folder of the operating system, not a data set. Give the folder of the images.")


def is_system(real: Path) -> bool:
    """Whether a path without links lies in what the system shows of itself."""
    inside = next((one for one in SYSTEM if real.is_relative_to(one)), None)
    try:
        # A mount of its own below /dev, as /dev/shm, holds files; everything below /proc and /sys is the system's.
        return inside is not None and (inside != "/dev" or real.stat().st_dev == os.stat("/dev").st_dev)
    except OSError:
        return True
