"""Hostile addresses: every query parameter of every page, with values that nobody types by accident."""

import pytest
from fabricate import trio
from lanes import slow
from opened import open_page

from kd.store.runs import Store
from pages.parts.compare.url_state import CHOICES
from pages.parts.shared.typed_paths import VARIABLE

PARAMETERS = {"pages/data.py": ("data", "size"), "pages/distill.py": ("run", "data"), "pages/sweep.py": ("sweep",),
              "pages/runs.py": ("run", "status", "set", "find"), "pages/evaluate.py": ("run",),
              "pages/compare.py": ("run", "student", "beside", "image", *CHOICES)}
VALUES = ("", " ", "0", "-1", "00", "1e9", "9" * 9, "9" * 400, "١٢", "²", "nan", "inf", "true", "null", "None", "[]",
          "{}", "..", "../..", "../../etc/passwd", "/", "/proc", "/dev/zero", "//", "~", "~root", ".", ".lock",
          "sweeps", "a" * 300, "é" * 200, "\x00", "a\x00b", "\n", "\ud7ff\ufffe", "%00", "a,b,c", "," * 500,
          "<script>alert(1)</script>", "'; --",
          "phantom-brain:", "phantom-brain:count=999999999", "phantom-brain:count=nan", "phantom-brain:difficulty=9",
          "phantom-brain:=", "phantom-fundus:a=b,a=b", "C:\\x",
          "file:///etc/passwd", "http://127.0.0.1/", "*", "[", "(?")


def _open(script, **address):
    at = open_page(script, **address)  # which asserts that nothing is raised
    shown = [one.value for one in at.error]
    assert not [text for text in shown if "Internal" in text or "Traceback" in text], (address, shown)
    return at


@pytest.mark.parametrize("script", PARAMETERS)
def test_hostile_addresses_are_sentences(own_root, script):
    trio(Store())
    for value in ("a" * 300, "a\x00b"):
        _open(script, **dict.fromkeys(PARAMETERS[script], value))


@pytest.mark.parametrize(("script", "name"), slow(*((script, name) for script, names in PARAMETERS.items()
                                                    for name in names)))
def test_every_parameter_of_every_page(own_root, monkeypatch, script, name):
    monkeypatch.setenv(VARIABLE, "0")  # as served to others: whole folders of this machine are not read
    student = trio(Store())[2]
    rest = {} if name in ("run", "student", "data", "sweep") else {"run": student.id}
    for value in VALUES:
        _open(script, **{**rest, name: value})
