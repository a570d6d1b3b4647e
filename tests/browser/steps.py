"""What a person does on the pages, in words: choose, type, wait, look."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page, expect

APP = "[data-testid=stApp]"
# On a cold deep link Streamlit's client tries `/page/_stcore/…` before `/_stcore/…`, and the browser reports the 404.
KNOWN = re.compile(r"/\w+/_stcore/")
LONG = 120_000  # milliseconds: trainings on a machine that others use too

# Keeps every state that a progress line went through, so that a look that comes late still sees that it moved.
# The marker is gone after a reload of the page.
WATCH = """() => {
  window.kdSeen = new Set();
  const look = () => {
    for (const found of document.body.innerText.matchAll(/epoch \\d+ of \\d+|\\d+ %/g)) window.kdSeen.add(found[0]);
  };
  look();
  new MutationObserver(look).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""
# How far the body can be scrolled sideways. Tables and charts may scroll within themselves.
SIDEWAYS = """() => Math.max(...[document.scrollingElement, document.querySelector('[data-testid=stMain]')]
  .filter(Boolean).map((one) => one.scrollWidth - one.clientWidth))"""


def settled(page: Page) -> None:
    """Wait until the page's script has run to its end and the browser has what it needs to draw the result."""
    expect(page.locator(APP)).to_have_attribute("data-test-script-state", "notRunning", timeout=60_000)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)  # each kind of element is fetched on first use


def visit(page: Page, path: str, title: str) -> None:
    """Open an address cold and wait for its page."""
    page.goto(path)
    expect(page.get_by_role("heading", name=title, level=1)).to_be_visible(timeout=60_000)
    settled(page)


def go(page: Page, label: str) -> None:
    """Follow a link of the sidebar."""
    page.get_by_test_id("stSidebar").get_by_role("link", name=label, exact=True).click()
    settled(page)


def choose(page: Page, label: str, option: str) -> None:
    """Take an option of a select box, found by typing it."""
    box = page.get_by_role("combobox", name=label)
    box.click()
    box.fill(option)
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def type_new(page: Page, label: str, text: str) -> None:
    """Type something that is no option yet into a select box that takes it."""
    box = page.get_by_role("combobox", name=label)
    box.click()
    box.fill(text)
    box.press("Enter")
    settled(page)


def number(page: Page, label: str, value: float) -> None:
    """Type a number into its field."""
    field = page.get_by_role("spinbutton", name=label, exact=True)
    field.fill(f"{value:g}")
    field.press("Enter")
    settled(page)


def slide(page: Page, label: str, value: int) -> None:
    """Move a slider with the keyboard until it stands at `value`; to its end in one jump."""
    knob = page.get_by_role("slider", name=label)
    if str(value) == knob.get_attribute("max"):
        knob.press("End")
    for _ in range(40):
        now = float(knob.input_value())
        if now == value:
            break
        knob.press("ArrowRight" if now < value else "ArrowLeft")
    expect(knob).to_have_value(str(value))
    settled(page)


def pictures(scope: Page | Locator, alt: str) -> Locator:
    """Images whose alternative text matches, once the first of them is drawn."""
    found = scope.get_by_role("img", name=re.compile(alt))
    expect(found.first).to_be_visible(timeout=60_000)
    return found


def drawn(picture: Locator) -> bool:
    """Whether the browser has got this picture and could read it."""
    return bool(picture.evaluate("(one) => one.decode().then(() => one.naturalWidth > 0, () => false)"))


def sideways(page: Page) -> int:
    """Pixels by which the page can be scrolled to the side."""
    return int(page.evaluate(SIDEWAYS))


def shoot(page: Page, path: Path) -> None:
    """A picture of the whole page: it scrolls within itself, so the window is made as tall as what is in it."""
    before = page.viewport_size or {"width": 1280, "height": 900}
    height = int(page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollHeight"))
    page.set_viewport_size({"width": before["width"], "height": max(before["height"], min(height, 6000))})
    settled(page)
    page.wait_for_function("() => [...document.images].every((one) => one.complete)")
    page.screenshot(path=path)
    page.set_viewport_size(before)


def photograph(width: int = 300, height: int = 200) -> bytes:
    """A PNG of somebody's own: a bright disc on noise."""
    y, x = np.mgrid[:height, :width]
    disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
    pixels = np.random.default_rng(0).integers(0, 80, (height, width, 3)) + 150 * disc[..., None]
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def no_complaints(page: Page) -> Iterator[None]:
    """Fail when the browser's console shows an error while the block runs."""
    heard: list[str] = []
    page.on("console", lambda message: heard.append(f"{message.text} {message.location['url']}")
            if message.type == "error" and not KNOWN.search(message.location["url"]) else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    yield
    assert not heard, heard
