"""The images that an audit's findings are about: copies side by side, doubtful labels, and what else was named."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from kd.audit.report import AuditReport
from kd.datasets import Dataset, Split
from pages.parts.shared.format import plain
from pages.parts.shared.originals import tiles

PAIRS, LABELS = "copies and look-alikes", "labels in doubt"
LABELS_NOTE = ("Most doubtful first. In trials with 5 % of the labels changed, between 16 and 90 % of the labels named "
               "had been changed (brain MRI: half), and the list had 17 to 45 % of the changed ones.")
SHOWN = 12  # images, and half as many pairs, on a page
Place = tuple[Split, int]


def images_of(found: AuditReport, data: Dataset) -> None:
    """A choice of what to see, and its images; nothing where no finding names an image."""
    lists = {one.clause: one.images for one in found.findings if one.images and one.key != "unreadable"}
    options = [*[PAIRS] * bool(found.pairs), *[LABELS] * bool(found.suspects), *lists]
    if not options:
        return
    chosen = st.selectbox("Show the images of", options, key=f"audit_images_{found.fingerprint}")
    places = {name: (split, row) for split in data.splits.values() for row, name in enumerate(split.names)}
    rows: Sequence[Any] = found.pairs if chosen == PAIRS else found.suspects if chosen == LABELS else lists[chosen]
    step = SHOWN // 2 if chosen == PAIRS else SHOWN
    pages = -(-len(rows) // step)
    page = st.pagination(pages, key=f"audit_page_{found.fingerprint}_{options.index(chosen)}") if pages > 1 else 1
    part = rows[(page - 1) * step:page * step]
    if chosen == PAIRS:
        _pairs(part, data, places)
    elif chosen == LABELS:
        st.caption(LABELS_NOTE)
        _tiles([(one["image"], f"labelled {one['label']} ({100 * one['given']:.1f} %), looks like {one['likely']} "
                 f"({100 * one['probability']:.0f} %)") for one in part], data, places)
    else:
        _tiles([(name, name) for name in part], data, places)


def _pairs(pairs: Sequence[dict[str, Any]], data: Dataset, places: dict[str, Place]) -> None:
    with st.grid(3, min_column_width=260, gap="small"):
        for pair in pairs:
            if pair["first"] not in places or pair["second"] not in places:
                continue
            with st.container(border=True, gap="xsmall"):
                with st.container(horizontal=True, gap="xsmall"):
                    for name in (pair["first"], pair["second"]):
                        split, number = places[name]
                        st.image(tiles(data, split, [number], False)[0], width=112, output_format="JPEG", alt=name)
                turned = ", mirrored" if pair["mirrored"] else ""
                st.caption(f"**{pair['kind']}{turned}** · {' and '.join(pair['parts'])}  \n{plain(pair['first'])}  \n"
                           f"{plain(pair['second'])}")


def _tiles(wanted: Sequence[tuple[str, str]], data: Dataset, places: dict[str, Place]) -> None:
    with st.grid("auto", min_column_width=120, gap="xsmall"):
        for name, caption in wanted:
            if name in places:
                split, number = places[name]
                st.image(tiles(data, split, [number], False)[0], width="stretch", output_format="JPEG", alt=name,
                         caption=plain(caption))
