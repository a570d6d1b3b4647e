"""Mutual slowdown of pages and training: `python -m benchmarks.pages [--quick]`.

A real server trains in its background thread. First, how long a page takes to rerun: Chromium opens 1 and then 8 tabs
of the runs page, all polling the live run. One tab is used: a key into its search field, timed in the browser from
Enter until the script has run and the page stands still. Idle and training are measured in the same run.

Then, what viewers cost the training: 0, 1 and 8 tabs of the live distillation in turn, several rounds over. Speed is
the run's own count of images, as a ratio to the same round without a viewer, on the same number of threads. The
browser has a core of its own, so that what it draws is not taken for what the server spends; the server's own CPU time
beside the training is read off its threads (Linux). Needs playwright and Chromium or Chrome.
"""

import argparse
import os
import platform
import statistics
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from benchmarks.serving import FLAGS, Server, browser_path
from kd.experiments.plan import DistillSpec, plan_first_seed
from kd.paths import Paths
from kd.store.runs import RUNNING, Run, Store
from kd.torch_utils.compute import cores

THREADS = cores()  # as a run takes by default
REQUEST = DistillSpec(
    data="phantom-brain:count=2000", teacher="test_resnet", epochs=1000, image_size=64, threads=THREADS
)
VIEWERS = (0, 1, 8)
APP = "[data-testid=stApp]"
# Types one letter and resolves with the milliseconds until the script has started and ended again.
RERUN = """async ([selector, text]) => {
  const app = document.querySelector('[data-testid=stApp]');
  const field = document.querySelector(selector);
  const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;
  field.focus();
  set.call(field, text);
  field.dispatchEvent(new Event('input', {bubbles: true}));
  await new Promise((done) => setTimeout(done, 60));  // the field takes the text over in its own time
  return await new Promise((resolve) => {
    let ran = false;
    const start = performance.now();
    const watch = new MutationObserver((records) => {
      const state = app.getAttribute('data-test-script-state');
      // A quick script may have ended before this is called: then only the old value tells that it ran.
      if (state === 'running' || records.some((record) => record.oldValue === 'running')) ran = true;
      if (ran && state === 'notRunning') { watch.disconnect(); resolve(performance.now() - start); }
    });
    // Now and then the field ignores a key that no hand pressed: the script then never starts, and nothing is timed.
    setTimeout(() => { if (!ran) { watch.disconnect(); resolve(null); } }, 5000);
    watch.observe(app, {attributes: true, attributeOldValue: true});
    field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', code: 'Enter', keyCode: 13, bubbles: true}));
  });
}"""


def rerun(page: Page, text: str) -> float | None:
    """Milliseconds of one rerun of the runs page; None when the key was lost in the browser."""
    time = page.evaluate(RERUN, ["[data-testid=stTextInput] input", text])
    return None if time is None else float(time)


def open_runs(context: BrowserContext, url: str) -> Page:
    """A tab with the runs page, loaded."""
    page = context.new_page()
    page.goto(f"{url}/runs")
    page.locator("[data-testid=stTextInput] input").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    return page


def measure(browser: Browser, url: str, tabs: int, count: int) -> list[float]:
    """Sorted milliseconds of `count` reruns in one tab while `tabs` are open; the first two are not counted."""
    context = browser.new_context()
    pages = [open_runs(context, url) for _ in range(tabs)]
    times: list[float] = []
    for number in range(2 * count):
        time = rerun(pages[0], "phantom"[: number % 7 + 1])
        times += [] if time is None else [time]
        pages[0].wait_for_timeout(150)
        if len(times) == count + 2:
            break
    context.close()
    return sorted(times[2:])


def row(label: str, tabs: int, times: list[float]) -> str:
    """One line of the table."""
    p95 = times[min(len(times) - 1, round(0.95 * (len(times) - 1)))]
    return f"| {label} | {tabs} | {statistics.median(times):.0f} | {p95:.0f} | {len(times)} |"


def start_training(browser: Browser, server: Server, run_id: str, store: Store) -> None:
    """Press Resume for a planned run and wait until it trains."""
    page = open_runs(browser.new_context(), server.url)
    page.get_by_role("button", name="Resume").first.click()
    pause = threading.Event()
    for _ in range(600):
        if store[run_id].status == RUNNING and store[run_id].epochs():
            break
        pause.wait(0.1)
    else:
        raise RuntimeError(f"{run_id} did not start: {server.tail()}")
    page.context.close()


@dataclass(frozen=True)
class Watch:
    """One stretch of training. speed: images a second. polls: a second. cpu: seconds a second that the server spent
    beside the training; None where it cannot be told."""

    viewers: int
    speed: float
    polls: float
    cpu: float | None


def watch(browser: Browser, server: Server, run: Run, viewers: int, seconds: float, training: set[int]) -> Watch:
    """Training while so many tabs show the live distillation. training: the server's threads that train."""
    context = browser.new_context(base_url=server.url)
    sent: list[object] = []
    pages = [_live(context, run, sent) for _ in range(viewers)]
    pause = pages[0].wait_for_timeout if pages else _sleep
    pause(4000)
    sent.clear()
    images, moment = _done(run)
    spent = server.cpu_seconds()
    pause(1000 * seconds)
    more, later = _done(run)
    used = {thread: time - spent.get(thread, 0.0) for thread, time in server.cpu_seconds().items()}
    beside = used[0] - sum(used.get(thread, 0.0) for thread in training) if used else None
    polls = len(sent) / seconds
    context.close()
    return Watch(viewers, (more - images) / (later - moment), polls, None if beside is None else beside / seconds)


def _sleep(milliseconds: float) -> None:
    threading.Event().wait(milliseconds / 1000)


def _live(context: BrowserContext, run: Run, sent: list[object]) -> Page:
    """A tab with the live distillation, whose polls are noted in `sent`."""
    page = context.new_page()
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    page.goto(f"/distill?run={run.id}")
    page.get_by_role("button", name="Cancel").first.wait_for(timeout=60_000)
    return page


def _done(run: Run) -> tuple[int, float]:
    """(images trained on so far, when that was written, unix seconds)."""
    now = run.progress
    return (now["epoch"] * now["steps"] + now["step"]) * run.spec.batch_size, now["time"]


def busiest(server: Server, pause: Callable[[float], None] = _sleep) -> set[int]:
    """The server's threads that train: the busy ones while no tab is open."""
    before = server.cpu_seconds()
    pause(3000)
    spent = {thread: time - before.get(thread, 0.0) for thread, time in server.cpu_seconds().items() if thread}
    return {thread for thread, time in spent.items() if 2 * time > max(spent.values())}


def viewers_table(watches: list[Watch]) -> list[str]:
    """The cost of viewers, each round against its own stretch without one."""
    alone = [one.speed for one in watches if one.viewers == 0]
    lines = ["| viewers | training speed | low–high | polls/s | server CPU, ms a poll |", "|---|---|---|---|---|"]
    for count in VIEWERS:
        seen = [one for one in watches if one.viewers == count]
        ratios = sorted(one.speed / base for one, base in zip(seen, alone, strict=True))
        polls = statistics.median(one.polls for one in seen)
        costs = [1000 * one.cpu / one.polls for one in seen if one.cpu is not None and one.polls]
        cost = f"{statistics.median(costs):.0f}" if costs else "–"
        lines.append(f"| {count} | {statistics.median(ratios):.2f} | {ratios[0]:.2f}–{ratios[-1]:.2f} | {polls:.1f} | "
                     f"{cost} |")
    return lines


def reruns(browser: Browser, server: Server, label: str, quick: bool) -> list[str]:
    """Rows of the first table."""
    return [row(label, tabs, measure(browser, server.url, tabs, 5 if quick else 40)) for tabs in (1, 8)]


def measured(server: Server, folder: Path, quick: bool,
             viewers: bool) -> tuple[list[str], list[Watch], int, int]:
    """Rows of the first table, unless only viewers are wanted; what viewers cost, in so many rounds of so many
    seconds."""
    store = Store(Paths(server.root))
    teacher = plan_first_seed(REQUEST, store).teacher
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_unhurried(folder), args=list(FLAGS))
        lines = [] if viewers else reruns(browser, server, "idle", quick)
        start_training(browser, server, teacher.id, store)
        lines += [] if viewers else reruns(browser, server, "training", quick)
        training, rounds, seconds = busiest(server), 1 if quick else 5, 5 if quick else 15
        watches = [watch(browser, server, teacher, count, seconds, training)
                   for _ in range(rounds) for count in VIEWERS]
        browser.close()
    return lines, watches, rounds, seconds


def main() -> None:
    """Measure and print two tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="few reruns and one round, for a test of this benchmark")
    options.add_argument("--viewers", action="store_true", help="the second table only")
    args = options.parse_args()
    ours, theirs = apart()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        keep_to(ours)
        server.start()
        keep_to(theirs)
        try:
            lines, watches, rounds, seconds = measured(server, Path(folder), args.quick, args.viewers)
        finally:
            server.kill()
    print(f"{platform.machine()}, server on {len(ours) or os.cpu_count()} cores and the browser "
          f"{'on another' if ours != theirs else 'on the same'}, training on {THREADS} threads, Python "
          f"{platform.python_version()}")
    if lines:
        print("Rerun of the runs page, milliseconds in the browser")
        print("| server | open tabs | p50 | p95 | n |\n|---|---|---|---|---|")
        print("\n".join(lines))
    print(f"Training while somebody looks, as a ratio to nobody; {rounds} rounds of {seconds} s")
    print("\n".join(viewers_table(watches)))


def apart() -> tuple[set[int], set[int]]:
    """Cores for the server and for the browser with this program: viewers sit at other machines, and Chromium raises
    its own priority where it may. The same where there is one core only, or no way to say."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    last = {max(mine)} if len(mine) > 1 else mine
    return mine - last or mine, last


def keep_to(cores_: set[int]) -> None:
    """Restrict this program, and what it starts from now on, to these cores."""
    if cores_:
        os.sched_setaffinity(0, cores_)


def _unhurried(folder: Path) -> str:
    """A browser with the lowest priority."""
    script = folder / "browser"
    script.write_text(f'#!/bin/sh\nexec nice -n 19 "{browser_path()}" "$@"\n')
    script.chmod(0o755)
    return str(script)


if __name__ == "__main__":
    main()
