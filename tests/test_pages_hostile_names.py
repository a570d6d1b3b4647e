"""Text out of a data set, a run or an address is shown as it is, never obeyed as Markdown or as a chart's tags."""

import pytest
from made_hostile import CLASSES, LINK, hostile_runs, hostile_set, html_of, markdown_of, obeyed, renamed
from opened import open_page
from streamlit.testing.v1 import AppTest

from kd.store.runs import Store
from pages.parts.shared.format import code, plain, untagged


@pytest.fixture
def runs(own_root):
    store = Store()
    found = hostile_runs(store, hostile_set(own_root / "data"))
    for run in found.trio:
        renamed(run)
    return found


@pytest.mark.parametrize("script", ["dashboard.py", "pages/data.py", "pages/runs.py", "pages/evaluate.py",
                                    "pages/compare.py", "pages/distill.py"])
def test_no_name_is_obeyed(runs, script):
    of = {"data": runs.student.spec.data, "size": "28"} if "data" in script else {"run": runs.student.id}
    at = open_page(script, **of)
    assert not [one.value for one in at.error if "Internal" in one.value]
    assert obeyed(at) == []
    assert not [chart for chart in html_of(at) if "<b> `c`" in chart]
    if script in ("pages/data.py", "pages/evaluate.py"):  # and is shown
        assert any(plain(CLASSES[0]) in text or plain(LINK) in text for _, text in markdown_of(at))


@pytest.mark.parametrize(("script", "name"), [
    ("pages/runs.py", "run"), ("pages/evaluate.py", "run"), ("pages/compare.py", "run"), ("pages/sweep.py", "sweep"),
    ("pages/data.py", "data"), ("pages/distill.py", "data")])
def test_no_address_is_obeyed(runs, script, name):
    assert obeyed(open_page(script, **{name: LINK})) == []


def test_what_is_found_is_what_would_be_obeyed():
    def shown() -> None:
        import streamlit as st  # the function is run as a script

        st.caption("**b** $x$ y$")
        st.button("a", help=":red[x]")
        st.table({"a": ["![x](a.png)"]})
        st.caption("`![x](a.png)` !\\[x\\](a.png)")

    assert [kind for kind, _ in obeyed(AppTest.from_function(shown).run())] == ["caption", "button", "table"]


@pytest.mark.parametrize(("text", "shown"), [("a", "`a`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```")])
def test_code_cannot_be_left(text, shown):
    assert code(text) == shown


def test_charts_take_no_tags():
    assert untagged('<a href="x">&</a>') == '&lt;a href="x"&gt;&amp;&lt;/a&gt;'
