"""How tests are spread over workers: a file's tests stay together, and those that wait have one worker for them all."""

import os
from typing import Any

import pytest

# They wait for a browser, for Ray and for processes of torch.distributed, beside workers that compute.
WAITING = ("tests/browser/", "tests/test_jobs_ray_cluster.py", "tests/test_training_distributed.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker a core, and one more for the tests that wait; each takes 1 GB of memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that wait begin first: together they take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(WAITING))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile` those that wait count as one file.

    `--dist loadgroup` is there for this, and groups nothing with pytest 9.2 (pytest-xdist issue 1386).
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "waiting" if nodeid.startswith(WAITING) else str(super()._split_scope(nodeid))

    return Scheduling(config, log)
