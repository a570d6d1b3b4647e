"""Parts of a page that are renewed by themselves."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import streamlit as st

from kd import arithmetic

P, R = ParamSpec("P"), TypeVar("R")


def polled(draw: Callable[P, R], every: float | None) -> Callable[P, R]:
    """A fragment that is renewed every so many seconds (None: only when used); each time says that somebody looks."""

    @wraps(draw)
    def look(*args: P.args, **kwargs: P.kwargs) -> R:
        arithmetic.look()
        return draw(*args, **kwargs)

    return st.fragment(look, run_every=every)
