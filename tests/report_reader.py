"""A report as a reader without a browser finds it: its headings, tables, images, and whatever would ask the network."""

import re
from html.parser import HTMLParser

VOID = ("meta", "img", "br", "link", "input")


class Report(HTMLParser):
    """text: all of it. tags: names of all elements. rows: cells of every table row. outside: what names another file.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.text, self.tags, self.headings, self.images, self.ids = html, "", [], [], [], []
        self.rows: list[list[str]] = []
        self.sections: list[str] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        if tag == "section":
            self.sections.append(values["id"])
        if tag == "img":
            self.images.append(values)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            if not (values.get(name) or "#").startswith(("#", "data:image/jpeg;base64,")):
                self.outside.append(f"{tag} {name}={values[name]}")
        assert not [name for name in values if name.startswith("on")], f"{tag} has a script: {values}"
        self.outside += re.findall(r"url\((?!#)[^)]*\)|@import.*", values.get("style") or "")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] == "style":
            self.outside += re.findall(r"url\((?!#)[^)]*\)|@import.*", data)
        elif {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, name: str, number: int = 0) -> list[str]:
        """The cells of the row that begins with this name, of several the one with this number."""
        return [row for row in self.rows if row and row[0] == name][number]
