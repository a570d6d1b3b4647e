"""The main job in a real browser, as a person does it: choose, distil, watch, compare, upload."""

import re
from pathlib import Path

import pytest
from lanes import slow
from playwright.sync_api import Page, expect
from steps import (
    LONG,
    WATCH,
    choose,
    drawn,
    no_complaints,
    number,
    photograph,
    pictures,
    settled,
    shoot,
    slide,
    type_new,
    visit,
)

from kd.experiments.demo import REQUEST

PHANTOM, FOLDER = "phantom-brain", "breast_ultrasound"
DEPTH = 3


def test_home_starts_the_demo_in_one_click_and_cancel_answers(page: Page, shots: Path):
    visit(page, "/", "KD Lens")
    shoot(page, shots / "home-empty.png")
    page.evaluate(WATCH)
    page.get_by_role("button", name="Start the demo").click()
    main = page.get_by_test_id("stMain")
    expect(main.get_by_role("heading", name="Training")).to_be_visible()
    expect(main.get_by_text(f"phantom-brain · {REQUEST.teacher} → plain{REQUEST.depth}")).to_be_visible()
    # That it trains, not merely that it was queued.
    page.wait_for_function("() => [...window.kdSeen].some((seen) => seen.endsWith('%'))", timeout=LONG)
    shoot(page, shots / "home-training.png")
    main.get_by_role("link", name="Watch").click()
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(main.get_by_text(re.compile("cancelled$"))).to_have_count(3)
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    shoot(page, shots / "distil-cancelled.png")


@pytest.mark.parametrize("kind", [PHANTOM, *slow(FOLDER)])
def test_main_path(page: Page, shots: Path, kind: str, request: pytest.FixtureRequest):
    with no_complaints(page):
        if kind == PHANTOM:
            choose_phantom(page)
        else:
            choose_folder(page, request.getfixturevalue("shared") / "data" / FOLDER)
        set_up(page, epochs=6 if kind == PHANTOM else 3)
        shoot(page, shots / f"distil-form-{kind}.png")
        distil_and_watch(page, shots / f"distil-training-{kind}.png")
        shoot(page, shots / f"distil-finished-{kind}.png")
        page.get_by_role("button", name="Compare explanations").click()
        compare(page)
        shoot(page, shots / f"compare-{kind}.png")
        target_and_opacity(page, "pituitary" if kind == PHANTOM else "malignant")
        upload(page)
        shoot(page, shots / f"compare-upload-{kind}.png")


def choose_phantom(page: Page) -> None:
    """On the data page: a small phantom set, then on to the form with it."""
    visit(page, "/data", "Data")
    page.get_by_role("spinbutton", name="Count", exact=True).fill("240")  # without Enter, which would submit it twice
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_text("240 images · 4 classes").first).to_be_visible()  # twice, while the page is redrawn
    page.get_by_role("button", name="Distil from this data set").click()
    expect(page.get_by_role("heading", name="Distil", level=1)).to_be_visible()
    expect(page.get_by_text("240 images in 4 classes")).to_be_visible(timeout=LONG)


def choose_folder(page: Page, folder: Path) -> None:
    """On the form: the path of a class folder, typed."""
    if not folder.is_dir():
        pytest.skip(f"no real data set: {folder} is not there")
    visit(page, "/distill", "Distil")
    fresh = page.get_by_role("radio", name="New distillation")
    if fresh.count():  # there is something to follow, and that comes first
        fresh.click()
        settled(page)
    type_new(page, "Data set", str(folder))
    expect(page.get_by_text("400 images in 3 classes")).to_be_visible(timeout=LONG)


def set_up(page: Page, epochs: int) -> None:
    """A distillation of seconds; the preview follows what is chosen."""
    number(page, "Working size (px)", 48)
    choose(page, "timm model", "test_resnet")
    slide(page, "Depth", DEPTH)
    number(page, "Epochs", epochs)
    layers = page.get_by_role("table", name="The student's stages")
    expect(layers.get_by_role("row")).to_have_count(1 + DEPTH)
    expect(layers.get_by_role("cell", name="24×24")).to_be_visible()
    expect(page.get_by_text("Teacher · test_resnet")).to_be_visible()
    basis = re.compile("images timed on this machine|with the same model, size and batch")
    expect(page.get_by_text(basis).first).to_be_visible(timeout=LONG)


def distil_and_watch(page: Page, shot: Path) -> None:
    """Press the button; the page must move by itself until the result is there."""
    page.evaluate(WATCH)
    page.get_by_test_id("stMain").get_by_role("button", name="Distil", exact=True).click()
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible()
    page.wait_for_function("() => window.kdSeen.size >= 3", timeout=LONG)
    shoot(page, shot)
    result = page.get_by_role("table", name=re.compile("Test accuracy"))
    expect(result).to_be_visible(timeout=LONG)
    seen = set(page.evaluate("() => [...(window.kdSeen ?? [])]"))
    assert any(one.startswith("epoch") for one in seen), f"the page was reloaded or stood still: {seen}"
    head, *rows = result.get_by_role("row").all()
    assert re.findall(r"(\w+) · ", head.inner_text()) == ["Teacher", "Control", "Student"]
    accuracy = next(row.inner_text() for row in rows if row.inner_text().startswith("Accuracy"))
    assert re.search(r"(\s+\d+\.\d){3}\s+[+−]\d+\.\d\s\(", accuracy), accuracy


def compare(page: Page) -> None:
    """Teacher's Grad-CAM and every layer of the student are on the screen, as pictures that can be read."""
    expect(page.get_by_role("heading", name="Compare", level=1)).to_be_visible()
    assert drawn(pictures(page, "^Teacher · Grad-CAM").first)
    assert drawn(pictures(page, "^Student · Grad-CAM").first)
    stages = pictures(page, "^student: ")
    expect(stages).to_have_count(DEPTH)
    assert all(drawn(stage) for stage in stages.all())
    expect(page.get_by_role("table", name=re.compile("Times of forward pass"))).to_be_visible()


def target_and_opacity(page: Page, target: str) -> None:
    """Another target class changes the Grad-CAM; another opacity, the layers' overlays too."""
    source = page.get_by_role("img", name=re.compile("^Teacher · Grad-CAM")).get_attribute("src")
    stage = page.get_by_role("img", name=re.compile("^student: ")).first.get_attribute("src")
    choose(page, "Target class", target)
    expect(page.get_by_role("heading", name=f"Evidence for “{target}”")).to_be_visible()
    expect(page).to_have_url(re.compile(f"target={target}"))
    slide(page, "Opacity", 1)
    expect(page.get_by_role("img", name=re.compile("^student: ")).first).not_to_have_attribute("src", stage or "")
    expect(page.get_by_role("img", name=re.compile("^Teacher · Grad-CAM"))).not_to_have_attribute("src", source or "")


def upload(page: Page) -> None:
    """A file that is no picture gets a sentence; a picture is explained."""
    page.get_by_role("radio", name="Upload").click()
    chooser = page.locator("input[type=file]")
    chooser.set_input_files({"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture at all"})
    expect(page.get_by_test_id("stAlert").filter(has_text="image")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Grad-CAM"))).to_have_count(0)
    page.locator("input[type=file]").set_input_files({"name": "mine.png", "mimeType": "image/png",
                                                      "buffer": photograph()})
    expect(page.get_by_text("The true class of an upload is not known.")).to_be_visible(timeout=LONG)
    assert drawn(pictures(page, "^Teacher · Grad-CAM").first)
    expect(page.get_by_role("img", name=re.compile("^student: "))).to_have_count(DEPTH)


