"""Where things lie on disk: one root with `checkpoints/` (runs) and `data/` (sets and their decoded caches)."""

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Places:
    """The folders under one root; they are made when first written to."""

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


def default_places() -> Places:
    """The project's own folders, or those under the directory named by KD_LENS_ROOT."""
    return Places(Path(os.environ.get("KD_LENS_ROOT") or PROJECT).resolve())
