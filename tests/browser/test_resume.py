"""A server that is killed in mid-epoch: what it left goes on at a click, to the very same weights."""

import shutil
import time
from pathlib import Path

from made_runs import made
from playwright.sync_api import Page, expect
from small import request
from steps import settled, shoot, visit
from waiting import wait_for

from benchmarks.serving import Server
from kd.datasets import inspect
from kd.experiments.plan import plan_first_seed
from kd.jobs.queue import execute
from kd.paths import Paths
from kd.store.runs import FINISHED, INTERRUPTED, Run, Store

# One thread always, as in this process: on how many a server computes, the last bits of the weights depend.
SETTINGS = {"data": "phantom-brain:count=120", "epochs": 5, "batch_size": 2, "threads": 1}


def kill_in_mid_epoch(server: Server, run: Run) -> None:
    """Kill the server half-way between the run's second epoch and its third of five."""
    assert wait_for(lambda: len(run.epochs()) >= 2), f"{run.id} made {len(run.epochs())} epochs"
    first, second = (epoch["time"] for epoch in run.epochs()[:2])
    time.sleep((second - first) / 2)
    server.kill()
    assert len(run.epochs()) < SETTINGS["epochs"], "killed too late"
    assert run.status == INTERRUPTED


def resume(page: Page, run: Run) -> None:
    """Click until the run goes on: a click is lost where the page draws its button anew in that moment."""
    for _ in range(3):
        page.get_by_role("button", name="Resume", exact=True).first.click()
        end = time.monotonic() + 20
        while run.status == INTERRUPTED and time.monotonic() < end:
            time.sleep(0.1)
        if run.status != INTERRUPTED:
            return


def undisturbed(run: Run, root: Path) -> Run:
    """The same student without a browser, a page or a kill."""
    store, teacher = Store(Paths(root)), run.spec.teacher
    shutil.copytree(run.path.parent / teacher, store.paths.runs / teacher)
    shutil.copytree(run.path.parents[1] / "data", store.paths.data)
    calm = store.create(run.spec)
    assert execute(calm, store) == FINISHED, calm.failure_reason
    return calm


def test_a_killed_server_resumes_to_the_same_weights(server: Server, page: Page, tmp_path: Path, shots: Path):
    store = Store(Paths(server.root))
    trio = plan_first_seed(request(**SETTINGS), store)
    for run in (trio.teacher, trio.control):
        made(store, run.spec, inspect(SETTINGS["data"]).classes)
    visit(page, f"/distill?run={trio.student.id}", "Distil")
    page.get_by_test_id("stMain").get_by_role("button", name="Start").click()
    kill_in_mid_epoch(server, trio.student)
    server.start()
    visit(page, f"/distill?run={trio.student.id}", "Distil")
    expect(page.get_by_test_id("stMain").get_by_text("interrupted").first).to_be_visible()
    shoot(page, shots / "distil-interrupted.png")
    visit(page, "/", "KD Lens")
    expect(page.get_by_text("interrupted").first).to_be_visible()
    page.get_by_test_id("stMain").get_by_role("link", name="Resume").click()
    settled(page)
    resume(page, trio.student)
    assert wait_for(lambda: trio.student.status == FINISHED), trio.student.status
    assert len(trio.student.epochs()) == SETTINGS["epochs"]
    calm = undisturbed(trio.student, tmp_path / "calm")
    assert calm.id == trio.student.id
    assert calm.weights.read_bytes() == trio.student.weights.read_bytes()
