"""Parts of a page that are renewed by themselves."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import streamlit as st

P, R = ParamSpec("P"), TypeVar("R")


def polled(draw: Callable[P, R], every: float | None) -> Callable[P, R]:
    """A fragment that is renewed every so many seconds; None: only when something in it is used."""
    return st.fragment(draw, run_every=every)
