"""What every test shares: a root of its own, one computing thread, and the real pictures where they are at hand."""

import os
import sys
from pathlib import Path

import pytest

pytest_plugins = ["noskip"]
MAIN = sys.modules["__main__"]

# Read by torch when it is first imported, also in processes that a test starts. Tests of two threads share the cores
# with other workers: who waits must not spin.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker a core, and one more for the tests that wait for other processes; each takes 1 GB of memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`--dist loadgroup` sends a file's tests to one worker, and first of all the group that names itself."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))


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


@pytest.fixture
def shared() -> Path:
    """The folder with real data sets and weights beside the repository."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not (path / "data").is_dir():
        pytest.skip(f"no real data sets: {path / 'data'} is not there")
    return path
