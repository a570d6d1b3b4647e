"""The run store of a page, and errors shown in place."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from kd.errors import UsageError, file_system_sentence
from kd.store.runs import Store
from pages.parts.shared.format import plain


def store() -> Store:
    """The runs under this installation's root; cheap, made anew for every script run."""
    return Store()


@contextmanager
def usage_errors() -> Iterator[None]:
    """Errors of the block, shown in place: a UsageError with its message, one of the file system in a sentence, and
    anything else as an internal error.

    The traceback of anything else goes to the server's log. Streamlit's own control flow (rerun, stop) passes.
    """
    try:
        yield
    except UsageError as error:
        st.error(plain(str(error)), icon=":material/error:")
    except Exception as error:
        if sentence := file_system_sentence(error):
            st.error(plain(sentence), icon=":material/error:")
            return
        logging.getLogger("kd_lens").exception("a page failed")
        st.error(f"Internal error ({type(error).__name__}). The server's log has the details.",
                 icon=":material/bug_report:")
