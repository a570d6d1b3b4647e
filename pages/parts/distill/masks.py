"""Masks of one image per class by epoch."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from kd.inspection.overlay import colour
from kd.store import probe_images
from kd.store.files import modified
from kd.store.runs import Run
from pages.parts.shared.format import percent, plain
from pages.parts.shared.images import GAP, fitted, mosaic, png
from pages.parts.shared.originals import tracked

TILE, STRIP = 128, 6  # pixels a side of a large tile; how many epochs stand in the strip below


def mask_panel(run: Run, names: Sequence[str]) -> None:
    """Draw the masks of all probe images; a slider chooses the epoch. names: of the classes. Nothing before the first
    epoch, or for a student without an explainer."""
    kept = (run.summary or {}).get("best_epoch")
    changed = modified(run.path / "probes")
    found = _seen(run, changed) if run.spec.mask_net_depth and changed else None
    if found is None:
        return
    labels, epochs = found
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.markdown("**Masked input of the student**", width="content")
        epoch = _epoch(run, epochs, kept)
    with st.grid(2, min_column_width=260, gap="small"):
        for number, label in enumerate(labels):
            name = names[label] if label < len(names) else f"class {label}"
            picture, area = _picture(str(run.path), number, epoch, epochs[-1], _stamp(run, epoch))
            if picture:
                st.image(picture, caption=f"{plain(name)} · {percent(area)} unmasked", width="stretch",
                         output_format="PNG", alt=f"{name}: image, mask, and what the mask leaves")
    strip = [str(one + 1) for one in probe_images.spread(epochs, STRIP)]
    st.caption(f"After epoch {epoch + 1}: a validation image, its mask (white: visible), and the student's "
               "masked input."
               + (f" Below, its mask after epochs {', '.join(strip)}." if len(strip) > 1 else "")
               + ("" if kept is None else f" The weights of epoch {kept + 1}, the best on validation, are kept.")
               + (" **The mask network was trained with the outlines of the training images.**"
                  if run.spec.learns_outlines else ""))


def _epoch(run: Run, epochs: Sequence[int], kept: int | None) -> int:
    """The epoch to show: the newest, as they come, and at the end the kept one, until the user chooses another."""
    if len(epochs) == 1:
        return epochs[0]
    chosen = f"mask-epoch-{run.id}"
    following = epochs[-1] if kept is None else kept
    # A slider for every epoch. One that is moved by the program is moved back by a browser that has not heard of it
    # yet, which looks like the user's choice.
    place = f"{chosen}-{epochs[-1]}-{kept}"

    def choose() -> None:
        found = st.session_state[place]
        st.session_state[chosen] = None if found == following else found

    shown = st.session_state.get(chosen)
    return st.select_slider("Epoch", epochs, shown if shown in epochs else following, key=place, on_change=choose,
                            format_func=lambda one: str(one + 1), width=280)


@lru_cache(maxsize=64)
def _seen(run: Run, changed: int) -> tuple[list[int], list[int]] | None:
    """(labels of the images, epochs), looked up anew when the folder has `changed`: polls are many."""
    watched, epochs = probe_images.load_images(run), probe_images.recorded_epochs(run)
    return (watched[1].tolist(), epochs) if watched and epochs and probe_images.load_masks(run) is not None else None


def _stamp(run: Run, epoch: int) -> int:
    """A run that was deleted and trained again has other masks under the same name."""
    return modified(run.path / "probes" / f"{epoch:04d}.npz")


@st.cache_data(max_entries=128, show_spinner=False)
def _picture(path: str, number: int, epoch: int, newest: int, stamp: int) -> tuple[bytes, float]:
    """(image, mask and what it leaves in a row, over a strip of the mask's history; the share that is shown): one
    PNG, since every element costs at every poll. Empty where the run has been deleted since it was looked at."""
    run = Run(Path(path))
    watched, fill, found = (
        probe_images.load_images(run),
        probe_images.load_fill(run),
        probe_images.load_masks(run, epoch),
    )
    if watched is None or fill is None or found is None:
        return b"", 0.0
    image, mask, shown = watched[0][number], found[number], tracked(run, number)
    masked = probe_images.masked_images(image, fill[number], mask)
    rows = [[fitted(image if shown is None else shown, TILE), _grey(mask, TILE), fitted(masked, TILE)]]
    if newest:
        small = (3 * TILE + 2 * GAP - (STRIP - 1) * GAP) // STRIP
        rows.append([_grey(one, small) for _, one in probe_images.maps_over_epochs(run, number, STRIP)])
    return png(mosaic(rows)), float(mask.astype(float).mean())


def _grey(mask: NDArray[np.float16], side: int) -> NDArray[np.uint8]:
    return colour(mask, side, "gray")
