"""What the decoded images of all data sets take on disk, and the button that clears them."""

import streamlit as st

from kd.datasets import cache
from kd.datasets.importing import archives
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import size


def decoded_cache() -> None:
    """One line and the button; nothing where nothing is cached."""
    used = cache.cached_bytes(store().paths) + archives.unpacked_bytes(store().paths)
    if not used:
        return
    with usage_errors(), st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Decoded-image cache: {size(used)} of {size(cache.quota())}, for all data sets and sizes together.",
                   width="content")
        if st.button("Clear decoded-image cache", key="clear_decoded_cache", type="tertiary", icon=":material/mop:",
                     help="Images are decoded again when their data set is next opened. What is in use now stays, as "
                          "are the images shown on this page."):
            cleared = cache.clear(store().paths)
            removed = cleared.removed + archives.remove_unpacked(store().paths)
            stays = f", {size(cleared.in_use)} in use stay" if cleared.in_use else ""
            st.toast(f"{size(removed)} freed{stays}.", icon=":material/mop:")
            st.rerun()
