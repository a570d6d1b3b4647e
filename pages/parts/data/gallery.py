"""A page of images out of a data set, in an order that a seed repeats."""

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kd.datasets import Dataset, Split
from pages.parts.shared.format import plain
from pages.parts.shared.originals import tiles

PER_PAGE = 24
ANY = "any class"


def browse(data: Dataset) -> None:
    """Controls and grid."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        part = st.selectbox("Split", [name for name, split in data.splits.items() if len(split)], key="sample_split",
                            width=110)
        label = st.selectbox("Class", [ANY, *data.classes], key="sample_class", width=220)
        seed = st.number_input("Shuffle seed", 0, 9999, 0, key="sample_seed", width=120,
                               help="The same number shows the same order. 0 is the order in the data set.")
        split = data.splits[part]
        masks = split.evidence is not None and st.toggle("Outline the evidence", key="sample_masks",
                                                      help="The region that makes the image one of its class.")
    found = order(split, data.classes.index(label) if label in data.classes else None, int(seed))
    if not len(found):
        st.info(f"There is no image of {plain(repr(label))} in {part}.", icon=":material/image_not_supported:")
        return
    pages = -(-len(found) // PER_PAGE)
    page = st.pagination(pages, key=f"sample_page_{part}_{label}_{seed}") if pages > 1 else 1
    grid(data, split, found[(page - 1) * PER_PAGE:page * PER_PAGE], bool(masks))
    st.caption(f"{len(found):,} images")


def order(split: Split, label: int | None, seed: int) -> NDArray[np.int64]:
    """Numbers of the images of a class (None: all), in the set's order for seed 0, else shuffled."""
    found = np.arange(len(split)) if label is None else np.flatnonzero(split.labels == label)
    return np.random.default_rng(seed).permutation(found) if seed else found


def grid(data: Dataset, split: Split, numbers: NDArray[np.int64], masks: bool) -> None:
    """The images of these numbers at their own resolution, each with its class."""
    with st.grid("auto", min_column_width=120, gap="xsmall"):
        for number, image in zip(numbers, tiles(data, split, numbers.tolist(), masks), strict=True):
            name = data.classes[int(split.labels[number])]
            st.image(image, width="stretch", caption=plain(name), output_format="JPEG",
                     alt=f"{name}, {split.names[number]}" + (", evidence outlined" if masks else ""))
