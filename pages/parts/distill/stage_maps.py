"""The student's stage maps of one image per class, as they are after its newest epoch."""

from functools import lru_cache
from pathlib import Path

import streamlit as st

from kd.inspection.overlay import colour
from kd.metrics.grids import coarse_note
from kd.store import probe_images
from kd.store.files import modified
from kd.store.groups import Distillation
from kd.store.runs import Run
from pages.parts.shared.images import coarse, png
from pages.parts.shared.originals import tracked

TILE = 128  # pixels a side


def stage_map_panel(trio: Distillation) -> None:
    """Draw the newest maps of one probe image; a control chooses the class."""
    changed = modified(trio.student.path / "probes")
    found = _newest(trio.student, changed) if changed else None
    if found is None:
        st.caption("The student's maps of one image per class appear after its first epoch.")
        return
    names = (trio.teacher.summary or {}).get("classes") or []
    labels = [names[label] if label < len(names) else f"class {label}" for label in found[0]]
    chosen = st.selectbox("Stage maps of the student", range(len(labels)), format_func=labels.__getitem__,
                          key=f"probe-{trio.student.id}")
    epoch = found[1]
    number = chosen if chosen is not None and chosen < len(labels) else 0
    with st.grid(min_column_width=84, gap="xsmall"):
        for caption, picture in _tiles(str(trio.student.path), epoch, number, _stamp(trio.student, epoch)):
            st.image(picture, caption=caption, width="stretch", output_format="PNG", alt=caption)
    coarse(coarse_note(_grids(trio.student, changed)))
    st.caption(f"After epoch {epoch + 1}. Channel averages, each scaled to its own range: not class-specific.")


@lru_cache(maxsize=64)
def _newest(run: Run, changed: int) -> tuple[list[int], int] | None:
    """(labels of the images, newest epoch), looked up anew when the folder has `changed`: polls are many."""
    watched, newest = probe_images.load_images(run), probe_images.latest_maps(run)
    return None if watched is None or newest is None else (watched[1].tolist(), newest[0])


@lru_cache(maxsize=64)
def _grids(run: Run, changed: int) -> list[tuple[str, tuple[int, ...]]]:
    """Every stage with the grid of its map."""
    newest = probe_images.latest_maps(run)
    return [(f"Stage {number}", maps.shape[1:]) for number, maps in enumerate(newest[1], 1)] if newest else []


def _stamp(run: Run, epoch: int) -> int:
    """A run that was deleted and trained again has other maps under the same name."""
    return modified(run.path / "probes" / f"{epoch:04d}.npz")


@st.cache_data(max_entries=64, show_spinner=False)
def _tiles(path: str, epoch: int, number: int, stamp: int) -> list[tuple[str, bytes]]:
    from kd.models.placement import placements_of  # torch and timm take seconds

    run = Run(Path(path))
    image, newest = tracked(run, number), probe_images.latest_maps(run)
    if image is None or newest is None:  # deleted since it was looked at
        return []
    tiles = [("image", png(image))]
    for stage, (maps, laid) in enumerate(zip(newest[1], placements_of(run.spec), strict=True)):
        heat = probe_images.scaled(maps[number])
        blank = "" if heat.any() else " · blank"
        picture = png(colour(heat, TILE, "viridis", laid))
        tiles.append((f"{stage + 1} · {heat.shape[0]}×{heat.shape[1]}{blank}", picture))
    return tiles
