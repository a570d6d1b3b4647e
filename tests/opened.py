"""A page as a visitor gets it, without a browser."""

from streamlit.testing.v1 import AppTest
from waiting import PATIENCE

from kd.paths import PROJECT


def open_page(script: str, warm: bool = False, **address: str) -> AppTest:
    """The page as a deep link opens it; warm: after the home page, as a click opens it."""
    at = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=PATIENCE)
    if warm:
        at.run()
    at.switch_page(script)
    for name, value in address.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at
