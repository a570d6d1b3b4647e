"""What every test shares: a root of its own, one computing thread, and the real pictures where they are at hand."""

import os
import signal
import sys
from functools import cache
from pathlib import Path

import pytest

pytest_plugins = ["noskip", "distribution"]
MAIN = sys.modules["__main__"]

# Read by torch when it is first imported, also in processes that a test starts. Tests of two threads share the cores
# with other workers: who waits must not spin.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
# No test waits for a conversion, or has an engine that depends on which was faster here; those of engines name theirs.
os.environ["KD_LENS_ENGINE"] = "torch"


# A process that a shell started in the background ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the project's runs and data, nor another test's; none waits for the machine's worker."""
    root = tmp_path / "root"
    monkeypatch.setenv("KD_LENS_ROOT", str(root))
    monkeypatch.setenv("KD_LENS_LOCK", str(tmp_path / "worker.lock"))
    return root


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Thread counts change the last digit of a sum, so no test inherits another's."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is tried out leaves itself as the main module, which a process started later would run as well."""
    monkeypatch.setitem(sys.modules, "__main__", MAIN)


@pytest.fixture(autouse=True)
def one_scan_for_components() -> None:
    """Streamlit reads the metadata of every installed package for each page that is tried out, half a second each."""
    if "streamlit" in sys.modules:
        from streamlit.components.v2 import manifest_scanner as scanner

        if not hasattr(scanner.scan_component_manifests, "cache_info"):
            scanner.scan_component_manifests = cache(scanner.scan_component_manifests)


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explainers that sample take 8 samples, for tests of what does not depend on how many."""
    from small_models import quick

    from kd.explainers import EXPLAINERS

    for name in EXPLAINERS:
        monkeypatch.setitem(EXPLAINERS._members, name, quick(EXPLAINERS[name]))


@pytest.fixture
def shared() -> Path:
    """The folder with real data sets and weights beside the repository."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not (path / "data").is_dir():
        pytest.skip(f"no real data sets: {path / 'data'} is not there")
    return path
