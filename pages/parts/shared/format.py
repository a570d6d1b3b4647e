"""Formatting of numbers, durations, sizes and names for pages."""

import html
import re
import textwrap

from kd.roles import CONTROL, STUDENT, TEACHER
from kd.spec import RunSpec
from kd.wording import count, duration, percent, size

__all__ = ["count", "duration", "ending", "percent", "plain", "role", "rough", "size", "tick", "times", "unbroken"]


def role(spec: RunSpec) -> str:
    """The likely role of a run seen alone: a student learns from a teacher; a small undistilled net is a control.

    Among all runs `listing.entries` knows better.
    """
    if spec.teacher:
        return STUDENT
    return CONTROL if spec.model in ("plain", "truncated") and not spec.fold else TEACHER


def rough(seconds: float) -> str:
    """A time no more exact than an estimate is: `2 min`, not `1 min 52 s`."""
    if seconds < 5:
        return "5 s or less"
    return duration(max(10, round(seconds, -1)) if seconds < 60 else 60 * round(seconds / 60))


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


def code(text: str) -> str:
    """A name from user data as code, in a fence that it cannot close."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"


def untagged(text: str) -> str:
    """A name from user data for a chart, in which tags would be obeyed."""
    return html.escape(text, quote=False)


def tick(name: str, width: int = 22) -> str:
    """A class name for the axis of a chart: wrapped, whole (two may begin alike), and with no tags in it."""
    return "<br>".join(map(untagged, textwrap.wrap(name, width))) or " "


def ending(path: str, most: int) -> str:
    """The last characters of a path, which tell more than the first."""
    return path if len(path) <= most else "…" + path[1 - most:]
