"""A server that is killed in mid-epoch: what it left goes on at a click, to the very same weights."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from small import request
from steps import settled, shoot, visit

from benchmarks.serving import PROJECT, Server
from kd.experiments.plan import plan_first_seed
from kd.paths import Paths
from kd.store.groups import Distillation
from kd.store.runs import FINISHED, INTERRUPTED, Run, Store

pytestmark = pytest.mark.xdist_group("processes")
# Trains what another process has planned.
UNDISTURBED = """
import sys
from kd.jobs.queue import queue
from kd.paths import Paths
jobs = queue(Paths(__import__("pathlib").Path(sys.argv[1])))
jobs.submit([jobs.store[run] for run in sys.argv[2:]])
sys.exit(not jobs.join(120))
"""
# One thread always: how many the server takes depends on who looks, and the last bits of the weights depend on that.
SETTINGS = {"data": "phantom-brain:count=240", "epochs": 6, "batch_size": 4, "threads": 1}


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own, to be killed."""
    server = Server(tmp_path / "doomed")
    try:
        yield server
    finally:
        server.kill()


def until(holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait for something on disk."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what} did not happen in {seconds:g} s"
        time.sleep(0.02)


def kill_in_mid_epoch(server: Server, run: Run) -> None:
    """Kill the server about half-way between the run's second epoch and its third."""
    until(lambda: len(run.epochs()) >= 2, f"the second epoch of {run.id}")
    first, second = (epoch["time"] for epoch in run.epochs()[:2])
    time.sleep((second - first) / 2)
    server.kill()
    assert len(run.epochs()) < SETTINGS["epochs"], "killed too late"
    assert run.status == INTERRUPTED


def undisturbed(root: Path) -> Distillation:
    """The same distillation without a browser, a page or a kill."""
    trio = plan_first_seed(request(**SETTINGS), Store(Paths(root)))
    subprocess.run([sys.executable, "-c", UNDISTURBED, str(root), *(run.id for run in trio.runs)], cwd=PROJECT,
                   check=True, timeout=200)
    return trio


def test_a_killed_server_resumes_to_the_same_weights(doomed: Server, browser: Browser, tmp_path: Path, shots: Path):
    store = Store(Paths(doomed.root))
    trio = plan_first_seed(request(**SETTINGS), store)
    doomed.start()
    page = browser.new_context(base_url=doomed.url, viewport={"width": 1280, "height": 900}).new_page()
    visit(page, f"/distill?run={trio.student.id}", "Distil")
    for number, (button, run) in enumerate((("Start", trio.teacher), ("Resume", trio.student))):
        page.get_by_test_id("stMain").get_by_role("button", name=button).click()
        kill_in_mid_epoch(doomed, run)
        doomed.start()
        visit(page, f"/distill?run={trio.student.id}", "Distil")
        expect(page.get_by_test_id("stMain").get_by_text("interrupted").first).to_be_visible()
        shoot(page, shots / f"distil-interrupted-{number + 1}.png")
    visit(page, "/", "KD Lens")
    expect(page.get_by_text("One run was interrupted")).to_be_visible()
    page.get_by_test_id("stMain").get_by_role("link", name="Resume").click()
    settled(page)
    page.get_by_role("button", name="Resume", exact=True).first.click()
    until(lambda: all(run.status == FINISHED for run in trio.runs), "the end")
    page.context.close()
    calm = undisturbed(tmp_path / "calm")
    for ours, theirs in zip(trio.runs, calm.runs, strict=True):
        assert ours.id == theirs.id
        assert ours.weights.read_bytes() == theirs.weights.read_bytes(), f"{ours.id} differs"
        assert len(ours.epochs()) == SETTINGS["epochs"]
