"""Sets that the program writes under a name."""

import io
from pathlib import Path

import pytest
from PIL import Image

from kd.datasets import open_dataset
from kd.datasets.base import DatasetInfo, Listed, SampleFiles
from kd.datasets.named_sets import NamedSetWriter, history_of, require_free_name, safe_name, step, targets
from kd.errors import UsageError
from kd.paths import Paths

IMAGES = [Listed(f"x/{part}{number}.png", label, part, f"{part}{number // 2}")
          for part, count in (("train", 6), ("val", 2), ("test", 2)) for label in ("a", "b<i>")
          for number in range(count)]


def png(shade: int, mask: bool = False) -> bytes:
    out = io.BytesIO()
    Image.new("L", (12, 12), shade).save(out, "PNG")
    return out.getvalue()


def write(paths: Paths, name: str = "mine", stop: int = 99) -> NamedSetWriter:
    writer = NamedSetWriter(name, paths)
    places = targets(IMAGES)
    for number, place in enumerate(places[:stop]):
        if place not in writer.written():
            writer.add(place, SampleFiles(png(40 + 8 * number), ".png", png(255) if number == 0 else None, ".png"))
    return writer


def finish(writer: NamedSetWriter) -> Path:
    rows = [(place, image.group) for place, image in zip(targets(IMAGES), IMAGES, strict=True)]
    return writer.finish(rows, DatasetInfo("Mine", flip=False), [step("import", images=len(IMAGES))])


def test_a_written_set_opens_as_it_was_meant(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    place = finish(write(paths))
    data = open_dataset("mine", 16, paths)
    assert data.classes == ("a", "b_i_") and [len(split) for split in data.splits.values()] == [12, 4, 4]
    assert data.info.title == "Mine" and data.info.flip is False
    assert data.train.groups is not None and len(set(data.train.groups)) == 3
    assert data.train.has_evidence is not None and data.train.has_evidence.sum() == 1
    assert history_of(place)[0]["kind"] == "import" and not list(paths.data.glob(".mine*"))


def test_nothing_appears_before_the_end_and_a_stopped_writer_is_gone_on_with(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    write(paths, stop=5)
    assert not (paths.data / "mine").exists()
    again = NamedSetWriter("mine", paths)
    assert again.written() == set(targets(IMAGES)[:5])
    finish(write(paths))
    assert len(open_dataset("mine", 16, paths).train) == 12


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    finish(write(paths))
    with pytest.raises(UsageError, match="there already"):
        NamedSetWriter("mine", paths)


@pytest.mark.parametrize("name", ["", "../out", "a/b", ".hidden", "x_masks", "train", "Test Set", "a" * 90, "a\n", "a.",
                                  "<b>"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a data set"):
        require_free_name(name, Paths(tmp_path))


@pytest.mark.parametrize(("text", "safe"), [("a/../../b", "a_.._.._b"), ("<script>", "_script_"), ("..", "unnamed"),
                                            (" x ", "x"), ("é", "é"), ("a\0b", "a_b"), ("con:1", "con_1")])
def test_markup_and_slashes_in_names_are_only_letters(text: str, safe: str) -> None:
    assert safe_name(text) == safe


def test_names_that_differ_in_case_stay_apart() -> None:
    found = targets([Listed("A.png", "x", "train"), Listed("a.png", "x", "train"), Listed("s/a.png", "x", "train")])
    assert len({place.casefold() for place in found}) == 3
    with pytest.raises(UsageError, match="would be one folder"):
        targets([Listed("1", "Glioma", "train"), Listed("2", "glioma", "train")])
