"""One line under the maps: how far they differ from those by the package pytorch-grad-cam."""

from concurrent.futures import Future

import streamlit as st

from kd.inspection.cam_check import CamCheck, check_key, shared_checks
from kd.inspection.compare import Comparison

POLL = 1.0  # seconds between two polls


def cam_check(comparison: Comparison) -> None:
    """What the check found. It is made in the background: until it has ended there is no line."""
    found = shared_checks().ask(check_key(comparison), comparison)
    if found.done():
        _line(found.result())
    else:
        st.fragment(_await, run_every=POLL)(found)


def _line(check: CamCheck | None) -> None:
    if check is None:
        return
    if check.equal or check.difference is None:
        st.caption(check.sentence)
    else:
        st.warning(check.sentence, icon=":material/warning:")


def _await(found: Future[CamCheck | None]) -> None:
    """The page is drawn anew once, when the check has ended."""
    if found.done():
        st.rerun()
