"""A data set whose every name is Markdown, a run on it, and what a page shows of them as Markdown."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fabricate import epochs, finish
from made_runs import CONTROL, TEACHER, student_spec
from made_sets import make_folder
from streamlit.testing.v1 import AppTest

from kd.datasets import inspect
from kd.models import build_untrained, weights
from kd.spec import RunSpec
from kd.store.files import write_json
from kd.store.groups import Distillation
from kd.store.runs import Run, Store

# Each would be an image of another site, bold, a formula, coloured or an icon.
CLASSES = ("![x](a.png)", "**b** $x$ y$", ":red[x] <b> `c`")
LINK = "![x](https://example.invalid/a.png)"
MARKS = ("![x](", "**b** $x", ":red[x]", "![i](", "*evil*", "![t](", ":material/bolt:")
# Fields of Streamlit's elements that are drawn as Markdown.
FIELDS = {"body", "label", "help", "text", "caption", "captions", "tooltip"}


def hostile_set(root: Path) -> Path:
    path = make_folder(root / "*evil* :material/bolt: set", {f"{part}/{name}": 4 for part in ("train", "val", "test")
                                                            for name in CLASSES})
    for image in [*path.glob("*/*/*.png")]:
        image.rename(image.with_name(f"![i](b.png) {image.name}"))
    (path / "dataset.json").write_text(json.dumps({
        "title": "![t](https://example.invalid/t.png)", "source": f"{LINK} **b** $x$ y$", "licence": ":red[x]",
        "caveats": [f"{LINK}", "**b** $x$ y$"]}))
    return path


def hostile_runs(store: Store, data: Path) -> Distillation:
    """Teacher, control and student on that set: random weights, made curves and scores."""
    known = inspect(str(data), store.paths)
    common: dict[str, Any] = {"data": str(data), "data_fingerprint": known.fingerprint, "image_size": 32}
    teacher = _made(store, replace(TEACHER, **common))
    return Distillation(teacher, _made(store, replace(CONTROL, **common)),
                        _made(store, replace(student_spec(teacher), **common)))


def _made(store: Store, spec: RunSpec) -> Run:
    run = finish(epochs(store.create(replace(spec, epochs=2)), 2), 4, images=12)
    weights.save(build_untrained(spec, 4), run.weights)
    return run


def renamed(run: Run) -> None:
    """The run's classes are the hostile ones."""
    summary = json.loads((run.path / "summary.json").read_text())
    write_json(run.path / "summary.json", {**summary, "classes": [*CLASSES, LINK]})


def markdown_of(at: AppTest) -> Iterator[tuple[str, str]]:
    """Every text that the page draws as Markdown, with the kind of its element."""
    for element in at._tree:
        proto = getattr(element, "proto", None)
        if proto is not None:
            yield from ((element.type, text) for text in _texts(proto))
    for table in at.table:  # not dataframes, whose cells are plain text
        shown = table.value
        yield from (("table", str(cell)) for cell in [*shown.columns, *shown.index, *shown.values.flat])


def html_of(at: AppTest) -> Iterator[str]:
    """The charts of a page as JSON; plotly obeys tags in names."""
    for element in at._tree:
        if element.type == "plotly_chart":
            yield json.dumps(json.loads(element.proto.spec), ensure_ascii=False)


def _texts(proto: Any) -> Iterator[str]:
    for field, value in proto.ListFields():
        values = value if field.is_repeated else [value]
        for one in values if not hasattr(values, "items") else []:
            if hasattr(one, "ListFields"):
                yield from _texts(one)
            elif isinstance(one, str) and field.name in FIELDS:
                yield one


def obeyed(at: AppTest) -> list[tuple[str, str]]:
    """Texts in which a hostile name stands unescaped."""
    return [(kind, text) for kind, text in markdown_of(at)
            if any(mark in re.sub(r"(`+).*?\1", "", text) for mark in MARKS)]
