"""How long a page takes to rerun while a run trains: `python -m benchmarks.pages [--quick]`.

A real server trains in its background thread; Chromium opens 1 and then 8 tabs of the runs page, all polling the live
run. One tab is used: a key into its search field, timed in the browser from Enter until the script has run and
the page stands still. Idle and training are measured in the same run. Needs playwright and Chromium or Chrome.
"""

import argparse
import platform
import statistics
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from benchmarks.serving import FLAGS, Server, browser_path
from kd.distill import Request, plan
from kd.places import Places
from kd.runs import RUNNING, Store

REQUEST = Request(data="phantom-brain:count=400", teacher="test_resnet", epochs=1000, image_size=64)
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
    """Press Resume for a planned run, as a person would, and wait until it trains."""
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


def main() -> None:
    """Measure and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="few reruns, for a test of this benchmark")
    count = 5 if options.parse_args().quick else 40
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = Server(Path(folder))
        store = Store(Places(server.root))
        trio = plan(REQUEST, store)
        server.start()
        browser = playwright.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        try:
            lines = [row("idle", tabs, measure(browser, server.url, tabs, count)) for tabs in (1, 8)]
            start_training(browser, server, trio.teacher.id, store)
            lines += [row("training", tabs, measure(browser, server.url, tabs, count)) for tabs in (1, 8)]
        finally:
            browser.close()
            server.kill()
    print(f"Rerun of the runs page, milliseconds in the browser; {platform.machine()}, {platform.python_version()}")
    print("| server | open tabs | p50 | p95 | n |\n|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
