"""Import of what later pages need, while the first one is shown."""

import atexit
import gc
import importlib
import logging
import sys
import threading
import types

from streamlit.runtime import Runtime, exists, get_instance

HEAVY = ("torch", "timm", "kd.training.loop", "scipy.stats")
DELAY = 1.5  # seconds: the first page must be on the screen before imports take the interpreter lock


def start() -> None:
    """Begin once per process, in the background; does nothing outside a real server (in a test of a page)."""
    if not (exists() and type(get_instance()) is Runtime):
        return
    # A synthetic module, because a reload of this file must not begin again.
    home = sys.modules.setdefault("_kd_lens_warmup", types.ModuleType("_kd_lens_warmup"))
    if home.__dict__.setdefault("begun", token := object()) is token:
        timer = threading.Timer(DELAY, warm)
        timer.daemon = True
        timer.start()


def warm() -> None:
    """Import everything heavy, then take it out of garbage collection, which Streamlit runs after every poll."""
    for name in HEAVY:
        try:
            importlib.import_module(name)
        except Exception:  # the page that needs it reports the error
            logging.getLogger(__name__).exception("%s could not be imported", name)
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # else triton reports what was frozen as leaked when the server ends
