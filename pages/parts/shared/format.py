"""Formatting of numbers, durations, sizes and names for pages."""

import html
import re
import textwrap

from kd.roles import CONTROL, STUDENT, TEACHER
from kd.spec import RunSpec


def role(spec: RunSpec) -> str:
    """The likely role of a run seen alone: a student learns from a teacher; a small undistilled net is a control.

    Among all runs `listing.entries` knows better.
    """
    if spec.teacher:
        return STUDENT
    return CONTROL if spec.model in ("plain", "truncated") and not spec.fold else TEACHER


def count(number: float | None) -> str:
    """Parameters, FLOPs, images: `38.6 M`, `394 k`; in full below ten thousand; a dash where unknown."""
    if number is None:
        return "–"
    for least, unit, scale in ((1e12, "T", 1e12), (1e9, "G", 1e9), (1e6, "M", 1e6), (1e4, "k", 1e3)):
        if abs(number) >= least:
            return f"{number / scale:.3g} {unit}"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:.3g}"


def duration(seconds: float | None) -> str:
    """`0.8 s`, `42 s`, `3 min 20 s`, `2 h 5 min`; a dash where unknown."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole < 600 and whole % 60 else "")
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rough(seconds: float) -> str:
    """A time no more exact than an estimate is: `2 min`, not `1 min 52 s`."""
    if seconds < 5:
        return "5 s or less"
    return duration(max(10, round(seconds, -1)) if seconds < 60 else 60 * round(seconds / 60))


def size(number: float | None) -> str:
    """Bytes on disk: `3.2 MB`."""
    if number is None:
        return "–"
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:.0f} B"


def percent(share: float | None) -> str:
    """`97.5 %` of a share in 0..1."""
    return "–" if share is None else f"{share * 100:.1f} %"


def times(larger: float, smaller: float) -> str:
    """`28×`: how often the smaller number goes into the larger."""
    return f"{larger / smaller:.{0 if larger >= 10 * smaller else 1}f}×" if smaller else "–"


def unbroken(text: str) -> str:
    """Keeps a number and its unit, or a range, on one line of a narrow table."""
    return text.replace(" ", "\u00a0").replace("–", "\u2060–\u2060")


# What Markdown, with Streamlit's colours and icons, would take for a mark; `_` only where it could open or close one.
_MARKS = re.compile(r"[\\`*{}\[\]<>#~$|&]|:(?=\w)|(?<!\w)_|_(?!\w)|^[-+](?=\s)|(?<=^\d)[.)]")


def plain(text: str) -> str:
    """A name from user data, escaped for Markdown: a folder may be called `*mild* <2 mm`."""
    return _MARKS.sub(r"\\\g<0>", text)


def tick(name: str, width: int = 22) -> str:
    """A class name for the axis of a chart: wrapped, whole (two may begin alike), and with no tags in it."""
    return "<br>".join(html.escape(line, quote=False) for line in textwrap.wrap(name, width)) or " "


def ending(path: str, most: int) -> str:
    """The last characters of a path, which tell more than the first."""
    return path if len(path) <= most else "…" + path[1 - most:]
