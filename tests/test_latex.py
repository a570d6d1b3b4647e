"""Tables as LaTeX: what a name contains stays text."""

import re

import pytest
from fabricate import trio
from made_runs import made_trio, picture

from kd.evaluation.report import model_report
from kd.evaluation.row_words import by_section
from kd.inspection.compare import compare
from kd.inspection.cost_rows import cost_rows
from kd.latex import NOTICE, as_latex, escape, is_latex
from kd.store.runs import Store

HOSTILE = r"\input{/etc/passwd} 50 % of a_b & $x^2$ #1 ~{c} <d>"


def test_nothing_in_a_text_is_a_command():
    found = escape(HOSTILE)
    assert found.startswith(r"\textbackslash{}input\{/etc/passwd\} 50 \% of a\_b \& \$x\textasciicircum{}2\$ \#1")
    assert not re.search(r"(?<!\\)[&%#_$^~]", found)
    assert escape("+1.9 (−0.3 to 4.1), ÷ 3, α ± 1") == r"+1.9 ($-$0.3 to 4.1), $\div$ 3, $\alpha$ $\pm$ 1"


def test_a_table_has_the_rules_of_booktabs_and_as_many_cells_in_every_row():
    text = as_latex([{"": HOSTILE, "Student": "1.0 %"}, {"": "b", "Student": None}], "A_caption.")
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\begin{tabular}{lr}" in text
    assert rf"\caption{{A\_caption. {NOTICE}}}" in text
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [1, 1, 1]
    assert rows[-1] == r"b &  \\"
    assert "nothing" in as_latex([])
    assert as_latex([], "").count(r"\begin") == 0


@pytest.mark.parametrize(("name", "latex"), [("a.tex", True), ("b/c.TEX", True), ("table.csv", False), ("tex", False)])
def test_a_name_says_which_kind_of_table(name, latex):
    assert is_latex(name) is latex


def test_scores_are_a_table_a_section():
    teacher, _, student = trio(Store())
    found = {role: model_report(role, run) for role, run in (("teacher", teacher), ("student", student))}
    tables = by_section([row for one in found.values() for row in one.rows], {"teacher": "T", "student": "S"})
    assert [next(iter(lines[0])) for lines in tables] == ["classification", "price", "recall"]
    assert tables[0][0] == {"classification": "accuracy", "T": "95.0 % (89.5–97.7)", "S": "90.0 % (83.3–94.2)",
                            "Baseline": "25.0 %"}
    assert as_latex(tables).count(r"\toprule") == 3


def test_costs_are_a_line_for_each_pass_and_map():
    found = compare(Store(), made_trio(Store())[2], picture(), repeats=2)
    rows = cost_rows(found)
    assert [(row.role, row.what) for row in rows] == [
        ("teacher", "forward"), ("teacher", "Grad-CAM"), ("teacher", "Sensitivity"), ("control", "forward"),
        ("control", "Grad-CAM"), ("control", "stage maps"), ("student", "forward"), ("student", "Grad-CAM"),
        ("student", "stage maps")]
    assert rows[0].to_json()["median"] == found.teacher.explanation.forward.median
    assert rows[0].to_json()["flops"] == found.teacher.explanation.flops
    assert rows[1].words()["× forward"] == f"{found.teacher.explanation.ratio:.2f}"
    assert rows[1].words()["FLOPs"] == ""
