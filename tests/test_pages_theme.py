"""Chart style: names stay names, on every chart of every page."""

import ast
from pathlib import Path

import plotly.graph_objects as go
import pytest

from pages.parts.shared.theme import tidy

ROOT = Path(__file__).resolve().parents[1]
CHARTS = [(path, function) for path in sorted((ROOT / "pages").rglob("*.py"))
          for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(function, ast.FunctionDef)
          and any(isinstance(node, ast.Call) and ast.unparse(node.func) == "go.Figure" for node in ast.walk(function))]


@pytest.mark.parametrize("names", [("0", "1"), ("1E2", "2E1"), ("001", "01", "1"), ("2019-01", "2021-11"),
                                   ("nan", "NA"), ("benign", "malignant")])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_names_are_categories(names: tuple[str, ...], axis: str) -> None:
    figure = tidy(go.Figure(go.Bar(**{axis: names, "xy".replace(axis, ""): [1.0] * len(names)})))
    assert figure.layout[f"{axis}axis"].type == "category"
    assert figure.layout["yaxis" if axis == "x" else "xaxis"].type is None


def test_numbers_stay_numbers() -> None:
    figure = tidy(go.Figure(go.Scatter(x=[0, 1], y=[0.5, 0.7])))
    assert figure.layout.xaxis.type is None and figure.layout.yaxis.type is None


@pytest.mark.parametrize(("path", "function"), CHARTS, ids=[f"{path.stem}.{one.name}" for path, one in CHARTS])
def test_every_chart_has_the_style(path: Path, function: ast.FunctionDef) -> None:
    calls = {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
    assert "tidy" in calls or function.name == "_pointed", f"{path.name}: {function.name} draws without tidy()"
