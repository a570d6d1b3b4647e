"""A real server and a real browser, one of each for all files here."""

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.serving import FLAGS, Server, browser_path

FAILED = pytest.StashKey[bool]()
PATIENCE = 30_000  # milliseconds for anything to appear: the first use of torch takes seconds, the machine may be busy
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running dashboard with an empty store."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium or Chrome as installed on this machine; skips where there is none."""
    path = browser_path()
    if path is None:
        pytest.skip("no browser: neither Chromium nor Chrome is installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: Server, request: pytest.FixtureRequest, shots: Path) -> Iterator[Page]:
    """A fresh browser tab, 1280 wide; `page.goto("/")` is home. When the test fails its picture goes into `shots`."""
    context = browser.new_context(base_url=server.url, viewport={"width": 1280, "height": 900}, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    if request.node.stash.get(FAILED, False) and not page.is_closed():
        picture = shots / f"failed-{request.node.name}.png".replace("/", "_")
        page.screenshot(path=picture, full_page=True)
        sys.stderr.write(f"\npage: {page.url}\nscreenshot: {picture}\nserver said:\n{server.tail()}\n")
    context.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: the folder named by KD_LENS_SHOTS, or a temporary one."""
    named = os.environ.get("KD_LENS_SHOTS")
    folder = Path(named).resolve() if named else tmp_path_factory.mktemp("shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
        item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report
