"""groups.csv and dataset.json."""

import json

import pytest

from kd.datasets.image_folder.metadata import parse_groups, parse_info, title_of
from kd.errors import UsageError

PATHS = ["train/a/1.png", "train/a/2.png", "test/a/2.png"]


@pytest.mark.parametrize("text", [
    "file,group\ntrain/a/1.png,ann\ntrain/a/2.png,ann\ntest/a/2.png,bob\n",
    "\ufeffGroup;File\r\nann;./train/a/1.png\r\nann;train\\a\\2.png\r\nbob;test/a/2.png\r\n",
    'file,age,group\n"train/a/1.png",4,ann\ntrain/a/2.png,,ann\n test/a/2.png ,5, bob \n',
])
def test_patients_in_every_dialect(text: str) -> None:
    assert parse_groups(text.encode(), PATHS, "x") == (["ann", "ann", "bob"], ())


def test_bare_names_work_where_they_are_unique() -> None:
    groups, warnings = parse_groups(b"file,group\n1.png,ann\n2.png,bob\n", PATHS, "x")
    assert groups == ["ann", None, None]
    assert "1 lines" in warnings[0] and "2 images are not in groups.csv" in warnings[1]


def test_without_the_file_nothing_is_guessed() -> None:
    assert parse_groups(None, PATHS, "x") == (None, ())


@pytest.mark.parametrize(("content", "words"), [
    (b"", "columns file and group"), (b"path,patient\n1.png,ann\n", "columns file and group"),
    (b"file,group\nother.png,ann\n", "names none of its 3 images.*'train/a/1.png'"),
    (b"file,group\n\xff,b\n", "UTF-8"),
])
def test_unusable_patients_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_groups(content, PATHS, "x")


def test_facts_are_read() -> None:
    info = parse_info(json.dumps({"title": "T", "source": "S", "licence": "L", "caveats": ["c", "d"], "flip": False,
                                    "more": 1}).encode(), "x")
    assert (info.title, info.source, info.licence, info.caveats, info.flip) == ("T", "S", "L", ("c", "d"), False)


def test_facts_have_defaults() -> None:
    assert parse_info(None, "brain_tumor").title == "Brain tumor"
    assert parse_info(b'{"caveats": "one"}', "x").caveats == ("one",)
    assert parse_info(b"{}", "x").licence == "not stated"
    assert title_of("__") == "Data set"


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"title": 3}', b'{"flip": "no"}', b'{"caveats": [1]}', b"\xff"])
def test_wrong_facts_are_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match=r"dataset\.json of x"):
        parse_info(content, "x")
