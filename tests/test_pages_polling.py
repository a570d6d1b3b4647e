"""Whoever looks at a page is noticed by the engine: at every run of a page and at every poll of a part."""

import re
import sys

import pytest
from fabricate import epochs, trio
from streamlit.testing.v1 import AppTest

from kd import arithmetic
from kd.places import PROJECT
from kd.runs import Store
from pages.parts.chrome import PAGES

PARTS = [*(PROJECT / "pages").rglob("*.py"), PROJECT / "dashboard.py"]


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    monkeypatch.delitem(sys.modules, "_kd_lens_looks", raising=False)
    assert not arithmetic.looked_at()


@pytest.mark.parametrize("script", [script for script, *_ in PAGES])
def test_every_page_says_that_somebody_looks(script):
    at = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=60)
    at.switch_page(script)
    at.run()
    assert not at.exception, at.exception
    assert arithmetic.looked_at()


def test_a_poll_says_so_too():
    def part() -> None:
        import streamlit as st

        from pages.parts.polling import polled

        def words(text: str) -> None:
            """Kept by the wrapper."""
            st.caption(text)

        polled(words, 2.0)("seen")

    at = AppTest.from_function(part).run()
    assert not at.exception, at.exception
    assert [caption.value for caption in at.caption] == ["seen"]
    assert arithmetic.looked_at()


def test_nothing_polls_without_saying_so():
    polls = {path.name for path in PARTS if re.search(r"run_every\s*=", path.read_text())}
    assert polls == {"polling.py"}


def test_figures_are_made_once_per_epoch_for_all_who_look():
    from pages.parts import live

    _, _, student = trio(Store())
    found = live.find(Store(), student.id)
    seen = tuple(run.epochs()[-1]["time"] for run in found.runs)
    first = live._figure(found, seen)
    assert live._figure(live.find(Store(), student.id), seen) is first
    epochs(student, 1)
    assert live._figure(found, (*seen[:2], student.events()[-1]["time"])) is not first
