"""Every page in a real browser: opened cold by its address, reloaded, in the dark, and as wide as a phone.

What opens several pages does it in one tab, where the browser has the frontend compiled after the first."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lanes import slow
from playwright.sync_api import Browser, Page, expect
from small import distilled
from steps import go, no_complaints, settled, shoot, sideways, visit

from benchmarks.serving import Server
from kd.paths import Paths
from kd.store.groups import Distillation
from kd.store.runs import Store

PAGES = {"/": "KD Lens", "/data": "Data", "/distill": "Distil", "/sweep": "Sweep", "/runs": "Runs",
         "/compare": "Compare", "/evaluate": "Evaluate"}


@pytest.fixture(scope="module")
def trio(server: Server) -> Distillation:
    """A finished distillation in the server's store."""
    return distilled(Store(Paths(server.root)), epochs=3)


@pytest.fixture(params=[(420, "dark"), *slow(((1280, "dark"),), ((420, "light"),))],
                ids=lambda look: f"{look[0]}-{look[1]}")
def dressed(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A tab of some width whose reader prefers light or dark."""
    width, scheme = request.param
    context = browser.new_context(base_url=server.url, viewport={"width": width, "height": 900}, color_scheme=scheme,
                                  locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


def test_a_cold_address_opens_its_page(page: Page):
    with no_complaints(page):
        for path, title in PAGES.items():
            visit(page, path, title)
            expect(page.get_by_test_id("stSidebar").get_by_text("Not for clinical use")).to_be_visible()


def test_deep_links_show_what_they_name(page: Page, trio: Distillation):
    student = trio.student.id
    main = page.get_by_test_id("stMain")
    visit(page, "/data?data=phantom-fundus:count=40&size=64", "Data")
    expect(page.get_by_text("40 images · 4 classes · 64 px")).to_be_visible()
    visit(page, f"/distill?run={student}", "Distil")
    expect(main.get_by_role("table", name=re.compile("Test accuracy"))).to_be_visible()
    visit(page, f"/runs?run={student}", "Runs")
    expect(main.get_by_role("heading", name="Student plain2w4")).to_be_visible()
    visit(page, f"/compare?run={student}&image=5&target=pituitary", "Compare")
    expect(main.get_by_role("heading", name="Evidence for “pituitary”")).to_be_visible()
    expect(main.get_by_role("spinbutton", name="Number")).to_have_value("5")
    address = page.url
    page.reload()
    expect(main.get_by_role("heading", name="Evidence for “pituitary”")).to_be_visible()
    settled(page)
    assert page.url == address
    visit(page, f"/evaluate?run={student}", "Evaluate")
    expect(main.get_by_role("heading", name="Confusions")).to_be_visible()


def test_a_link_to_a_run_that_is_gone_says_so(page: Page, trio: Distillation):
    for path in ("/distill", "/runs", "/compare", "/evaluate"):
        visit(page, f"{path}?run=no_such_run", PAGES[path])
        alert = page.get_by_test_id("stMain").get_by_test_id("stAlert").first
        expect(alert).to_contain_text("no_such_run")
        assert "Internal error" not in alert.inner_text()


def test_the_back_button_goes_back(page: Page, trio: Distillation):
    visit(page, "/", "KD Lens")
    page.get_by_test_id("stMain").get_by_role("button", name="Compare").first.click()
    expect(page.get_by_role("heading", name="Compare", level=1)).to_be_visible()
    settled(page)
    go(page, "Runs")
    expect(page.get_by_role("heading", name="Runs", level=1)).to_be_visible()
    settled(page)
    for _ in range(4):  # a page that completes its own address may have left an entry of its own
        page.go_back()
        settled(page)
        if page.get_by_role("heading", name="KD Lens", level=1).is_visible():
            break
    expect(page.get_by_role("heading", name="KD Lens", level=1)).to_be_visible()


def test_every_page_in_other_clothes(dressed: Page, trio: Distillation, shots: Path, request: pytest.FixtureRequest):
    look = request.node.callspec.id
    with no_complaints(dressed):
        for path, title in PAGES.items():
            visit(dressed, path, title)
            if path == "/compare":
                expect(dressed.get_by_role("heading", name="Cost")).to_be_visible()
            if path == "/runs":
                visit(dressed, f"/runs?run={trio.student.id}", title)
            assert sideways(dressed) <= 0, f"{path} scrolls sideways at {look}"
            shoot(dressed, shots / f"{title.lower().replace(' ', '-')}-{look}.png")
