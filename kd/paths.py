"""Folders on disk: one root with `checkpoints/` (runs) and `data/` (data sets and their decoded caches)."""

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Paths:
    """The folders under one root; each is created when first written to."""

    root: Path

    @property
    def runs(self) -> Path:
        return self.root / "checkpoints"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def cache(self) -> Path:
        """Decoded data sets: safe to delete at any time when nothing runs."""
        return self.data / ".cache"


def default_paths() -> Paths:
    """The folders under the directory that KD_LENS_ROOT names; without it those of the checkout that this code runs
    from, or, where it is installed without one, under the working directory."""
    checkout = PROJECT if (PROJECT / "pyproject.toml").exists() else Path()
    return Paths(Path(os.environ.get("KD_LENS_ROOT") or checkout).resolve())
