"""Images of a data set at their own resolution, as they are shown; models are given the working copies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kd import datasets
from kd.datasets import Dataset, Split
from kd.errors import UsageError
from kd.inspection.overlay import outline
from kd.paths import Paths
from kd.store import probe_images
from kd.store.runs import Run
from pages.parts.shared.context import store
from pages.parts.shared.dataset_info import opened
from pages.parts.shared.images import enlarge

MOST, TILE, THUMB = 1024, 512, 160  # pixels a side: of one image, of one in a row, of one to choose


def own(data: Dataset, split: Split, numbers: Sequence[int], most: int = TILE) -> list[NDArray[np.uint8]]:
    """Images of a split [S, S, 3], each at its own resolution up to `most` pixels, fitted into a square as its working
    copy is; the working copy where there is no other."""
    names = tuple(split.names[number] for number in numbers)
    found = _read(data.reference, data.fingerprint, store().paths.root, names, most, data)
    return [np.asarray(split.images[number]) if image is None else image
            for number, image in zip(numbers, found, strict=True)]


def tiles(data: Dataset, split: Split, numbers: Sequence[int], masks: bool) -> list[NDArray[np.uint8]]:
    """As `own`, for a grid: the evidence outlined where requested and known."""
    evidence = split.evidence if masks else None
    return [outline(enlarge(image), None if evidence is None else evidence[number])
            for number, image in zip(numbers, own(data, split, numbers), strict=True)]


def tracked(run: Run, number: int) -> NDArray[np.uint8] | None:
    """A run's tracked image (`kd.store.probe_images`), as `own` gives it; as stored where its data set is gone or is
    another now. None before training began."""
    found = probe_images.load_images(run)
    if found is None or number >= len(found[0]):
        return None
    stored, label = found[0][number], found[1][number]
    if datasets.is_drawn(run.spec.data):
        return stored
    try:
        data = opened(run.spec.data, run.spec.data_fingerprint, run.spec.image_size, store().paths.root)
    except UsageError:
        return stored
    first = np.flatnonzero(data.val.labels == label)[:1]
    same = len(first) and np.array_equal(data.val.images[first[0]], stored)
    return own(data, data.val, [int(first[0])])[0] if same else stored


@st.cache_data(max_entries=8, show_spinner=False)
def _read(reference: str, fingerprint: str, root: Path, names: tuple[str, ...], most: int,
          _data: Dataset) -> list[NDArray[np.uint8] | None]:
    return _reader(reference, fingerprint, root, _data)(names, most)


@st.cache_resource(max_entries=4, show_spinner=False)
def _reader(reference: str, fingerprint: str, root: Path, _data: Dataset) -> datasets.Originals:
    return datasets.originals(_data, Paths(root))
