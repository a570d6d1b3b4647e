"""Main numbers of a sweep's cells in words, for tables that are read and printed."""

from collections.abc import Sequence
from typing import Any

from kd.experiments.differences import SeedScores, between
from kd.experiments.sweep import Sweep
from kd.experiments.sweep.results import NOTICE, Row, best, is_proven
from kd.latex import as_latex


def as_table(sweep: Sweep, rows: Sequence[Row]) -> str:
    """A sweep's table as LaTeX."""
    chosen = best(rows)
    return as_latex([main_numbers(row, row is chosen) for row in rows],
                    f"Sweep {sweep.id}: accuracies and F1 scores in per cent, mean ± standard deviation over the "
                    f"seeds, in brackets 95 % intervals. {NOTICE}")


def main_numbers(row: Row, chosen: bool) -> dict[str, Any]:
    """The main numbers of a cell. chosen: whether it is the one chosen on validation."""
    student = row.arm("student")
    numbers: dict[str, Any] = {}
    if student and row.outcome:
        milliseconds, bought = row.milliseconds.get("student"), row.outcome.vs_control
        numbers = {"val F1": _share(student.val_macro_f1), "test accuracy": _share(student.accuracy),
                   "test F1": _share(student.macro_f1),
                   "student − control": f"{bought.value:+.1f} ({between(bought)})".replace("-", "−"),
                   "parameters": student.parameters, "MFLOPs": f"{student.flops / 1e6:.3g}",
                   "explain ms": "" if milliseconds is None else f"{milliseconds:.2f}",
                   "train s": f"{student.seconds.mean:.1f}"}
    return {"cell": row.cell.number, **row.settings, "seeds": row.seeds, **numbers,
            "status": row.status + ("" if not chosen else " <- best" if is_proven(row) else
                                    " <- highest on validation, no better than the majority class")}


def _share(one: SeedScores) -> str:
    return f"{100 * one.mean:.1f}" + ("" if one.sd is None else f" ± {100 * one.sd:.1f}")
