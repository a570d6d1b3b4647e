"""`python -m kd data-efficiency`: learning curves over fractions of the training images."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from kd.cli.progress import say
from kd.cli.run_here import Result, say_note
from kd.cli.sweep import knobs, settings, sized, train_all
from kd.errors import UsageError
from kd.experiments.data_efficiency import DATA_EFFICIENCY, FRACTIONS, METHODS, UNLABELLED_IMAGES, data_efficiency
from kd.experiments.data_efficiency import report as reports
from kd.experiments.data_efficiency.curves import FRACTION, LearningCurves, learning_curves
from kd.experiments.sweep import Sweep, find
from kd.experiments.sweep.results import NOTICE, Row, audit_verdict, table
from kd.latex import is_latex
from kd.store.files import write_bytes
from kd.store.runs import Store


def learning_curves_of(args: Namespace, store: Store) -> Result:
    """Learning curves of control and students, trained where missing; with `--show` of any trained sweep over
    fractions."""
    wanted = find(store, args.show) if args.show else sized(_requested(args), args, store)
    if FRACTION not in wanted.axes:
        raise UsageError(f"The sweep {wanted.id} has one share of the data only, so there is nothing to compare.")
    if not args.show:
        train_all(wanted, store, args.ray)
    rows = table(wanted, store)
    found = learning_curves(wanted, rows, store)
    for row in rows:
        if row.reason:
            say(f"Cell {row.cell.number}, {row.cell.title}: {row.reason}")
    result: Result = {"sweep": wanted.id, **wanted.to_json(),
              "studies": [reports.to_json(one) for one in found],
              "audit": audit_verdict(rows, store), "notice": NOTICE}
    _write(args, wanted, rows, found, result, store)
    if args.json:
        return result
    say_note(result["audit"])
    return _as_text(found)


def _requested(args: Namespace) -> Sweep:
    """The sweep of these flags. Raises UsageError."""
    if not args.data:
        raise UsageError("Give the data set: --data phantom-brain, a folder, a zip or an .npz. To look at an earlier "
                         "one: --show ID; python -m kd sweep --show lists them.")
    values: dict[str, Any] = {**settings(args), "method_args": knobs(args)}
    values.pop("unlabelled", None)
    return data_efficiency(values, args.methods or METHODS, args.fractions or FRACTIONS,
                           args.unlabelled or UNLABELLED_IMAGES)


def _write(
    args: Namespace, wanted: Sweep, rows: list[Row], found: list[LearningCurves], result: Result, store: Store
) -> None:
    """The table, and with `--out` also the numbers and a figure of each study."""
    out = Path(args.out) if args.out else None
    for file in filter(None, (args.csv and Path(args.csv), out and out / f"{DATA_EFFICIENCY}.csv")):
        text = reports.as_table(found) if is_latex(file) else reports.as_csv(wanted, found, rows, store)
        write_bytes(file, text.encode())
        say(f"Table: {file}")
    if out is None:
        return
    from kd.experiments.data_efficiency.figure import draw

    write_bytes(out / f"{DATA_EFFICIENCY}.json", (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    for number, one in enumerate(found, 1):
        file = out / (f"{DATA_EFFICIENCY}.png" if len(found) == 1 else f"{DATA_EFFICIENCY}-{number}.png")
        write_bytes(file, draw(one))
        say(f"Figure: {file}")


def _as_text(found: list[LearningCurves]) -> Result:
    """The table for stdout; its summary goes to stderr."""
    for one in found:
        say(f"{one.title}: {reports.sentence(one)}" if one.title else reports.sentence(one))
        say(f"The {reports.teacher_words(one)}; always the most frequent class: {100 * one.majority:.1f} %.")
        say(f"In brackets: {reports.interval_note(one)}. {NOTICE}")
    return {"studies": reports.all_rows(found)}
