"""Facts of a data set read from its files, cached briefly; no image is decoded."""

from pathlib import Path

import streamlit as st

from kd import datasets
from kd.datasets import DataRef, open_dataset
from kd.datasets.base import Dataset
from kd.paths import Paths
from pages.parts.shared.context import store
from pages.parts.shared.typed_paths import require_allowed


def dataset_info(reference: str) -> DataRef:
    """The data set that a reference names. Raises UsageError when there is none of this name."""
    require_allowed(reference)
    return _looked(reference, store().paths.root)


@st.cache_data(ttl=20, max_entries=16, show_spinner=False)
def _looked(reference: str, root: Path) -> DataRef:
    return datasets.inspect(reference, Paths(root))


@st.cache_resource(max_entries=4, show_spinner="Opening the data set")
def opened(reference: str, fingerprint: str, size: int, root: Path) -> Dataset:
    """A run's data set at one size, also of a moved store. Its images are memory maps: keeping it costs little."""
    return open_dataset(reference, size, Paths(root), fingerprint=fingerprint)
