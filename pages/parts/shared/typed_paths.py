"""Which paths of the server's machine a visitor may name."""

import os
from pathlib import Path

import streamlit as st

from kd.datasets import is_drawn, locate
from kd.errors import UsageError
from kd.store.runs import Store
from pages.parts.shared.context import store

VARIABLE = "KD_LENS_TYPED_PATHS"  # documented in docs/guide.md
_LOCAL = ("localhost", "127.0.0.1", "::1")


def allowed() -> bool:
    """Whether any path may be named: as VARIABLE says, else where only this machine can reach the server."""
    given = os.environ.get(VARIABLE, "").strip().lower()
    return given in ("1", "true", "yes") if given else st.get_option("server.address") in _LOCAL


def require_allowed(path: str) -> None:
    """Raise UsageError for a path that a visitor may not name. Those below the store's data/, and those that a run of
    the store has learnt from, may always be named; of others it is not said whether they exist."""
    if not path.strip() or is_drawn(path) or allowed() or _of_store(path.strip(), store()):
        return
    raise UsageError(f"Only what lies in the data folder can be opened here, not {path[:200]!r}. Whoever runs this "
                     f"server can put it there, or set {VARIABLE}=1.")


def _of_store(text: str, runs: Store) -> bool:
    if not text.isprintable():  # no name of a file that somebody gave, and a zero byte is none of any
        return False
    real = Path(os.path.realpath(locate(text, runs.paths) or text))
    if real.is_relative_to(os.path.realpath(runs.paths.data)):
        return True
    return any(real == Path(os.path.realpath(name)) for run in runs
               for name in (run.spec.data, run.spec.unlabelled, run.spec.pretrained) if os.path.isabs(name))
