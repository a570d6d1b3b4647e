"""A test that could not run is a failure where KD_LENS_NO_SKIP says so.

`KD_LENS_NO_SKIP=1` holds for every test; any other value for those whose file or reason contains it (`browser`).
"""

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _must_run(report: Report) -> Report:
    wanted = os.environ.get("KD_LENS_NO_SKIP", "")
    if not wanted or not report.skipped or hasattr(report, "wasxfail"):
        return report
    reason = str(report.longrepr[-1]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if wanted == "1" or wanted in report.nodeid or wanted in reason:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was not run, and KD_LENS_NO_SKIP={wanted} allows no skip.\n{reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _must_run((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _must_run((yield))
