"""OpenVINO, imported without the usage statistics that it would send."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def openvino() -> Any:
    """The package `openvino`. Importing it plainly reports the import to its maker's servers and leaves a folder in the
    home directory; where its reporting package cannot be imported, it goes on without."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: an ImportError
    return import_module("openvino")


def nncf() -> Any:
    """The package `nncf`, which quantises OpenVINO's models, or None where it is not installed. It reports in the same
    way."""
    openvino()
    return import_module("nncf") if find_spec("nncf") else None
