"""Roles of compared models: names, order, colours and marks, in figures and on pages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """One role. colour: hex, of lines, bars and text. mark: a dot of about the same hue in Streamlit's Markdown."""

    key: str
    colour: str
    mark: str


# The first three, of every distillation, are from the palette of Okabe and Ito: distinguishable with every common
# colour vision, and readable on light and dark. Then further students, in the order in which they were named, and the
# 8-bit form of the student.
ROLE_TABLE = {role.key: role for role in (
    Role("teacher", "#0072B2", ":blue[●]"),
    Role("control", "#8A8F94", ":gray[●]"),
    Role("student", "#D55E00", ":orange[●]"),
    Role("student 2", "#009E73", ":green[●]"),
    Role("student 3", "#B565A7", ":violet[●]"),
    Role("student 4", "#A23B3B", ":red[●]"),
    Role("8-bit student", "#B8860B", ":yellow[●]"),
)}
TEACHER, CONTROL, STUDENT = ROLES = tuple(ROLE_TABLE)[:3]
OTHERS = tuple(ROLE_TABLE)[3:6]
EIGHT_BIT = tuple(ROLE_TABLE)[6]
COLOURS = {key: role.colour for key, role in ROLE_TABLE.items()}
MARKS = {key: role.mark for key, role in ROLE_TABLE.items()}
