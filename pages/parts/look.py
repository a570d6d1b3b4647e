"""What a data set says of itself without being decoded, remembered for a moment."""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from kd import datasets
from kd.places import Places
from pages.parts.common import store


@dataclass(frozen=True)
class Look:
    """Classes, number of pictures in all parts, and the digest of the content."""

    classes: tuple[str, ...]
    pictures: int
    fingerprint: str


def looked(reference: str) -> Look:
    """The data set's facts. Raises UsageError when there is none of this name."""
    return _looked(reference, store().places.root)


@st.cache_data(ttl=20, max_entries=16, show_spinner=False)
def _looked(reference: str, root: Path) -> Look:
    source = datasets.look(reference, Places(root))
    return Look(source.classes, source.total, source.fingerprint)
