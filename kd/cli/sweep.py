"""`python -m kd sweep`: a distillation for every combination of settings, trained here one after the other or, as Ray
tasks, many at once."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kd import datasets
from kd.cli.progress import Epochs, say
from kd.cli.run_here import Result, compute_here, say_note, say_size, warn
from kd.errors import UsageError
from kd.experiments.plan import DistillSpec, method_warning
from kd.experiments.sweep import AXES, TRIED, Sweep, find, planned_cells, request, runs, sweeps, unfinished_runs
from kd.experiments.sweep import explanation_times as timing
from kd.experiments.sweep import results as tables
from kd.experiments.sweep.main_numbers import as_table, main_numbers
from kd.experiments.sweep.progress import place
from kd.experiments.sweep.results import Row
from kd.experiments.working_size import sweep_with_sizes
from kd.jobs import ray_cluster
from kd.jobs.queue import execute, one_per_machine
from kd.jobs.tasks import task
from kd.latex import is_latex
from kd.store.files import write_bytes
from kd.store.runs import FINISHED, Run, Store

CLAIMED = 200  # runs marked as queued ahead; each holds a file open


def sweep(args: Namespace, store: Store) -> Result:
    """Train the unfinished runs, time the explanations, return the table; with `--show` that of an earlier sweep."""
    if args.show == "":
        return {"sweeps": [_brief(one, store) for one in sweeps(store)]}
    wanted = find(store, args.show) if args.show else sized(_asked(args), args, store)
    if not args.show:
        train_all(wanted, store, args.ray)
        time_explanations(wanted, store)
    rows = tables.table(wanted, store)
    if args.csv:
        text = as_table(wanted, rows) if is_latex(args.csv) else tables.as_csv(wanted, rows, store)
        write_bytes(Path(args.csv), text.encode())
        say(f"Table: {args.csv}")
    return as_json(wanted, rows, store) if args.json else _as_text(wanted, rows, store)


def _asked(args: Namespace) -> Sweep:
    """The sweep of these flags. Raises UsageError."""
    if not args.data:
        raise UsageError("Give the data set: --data phantom-brain, a folder, a zip or an .npz. To look at an earlier "
                         "sweep: --show, or --show ID.")
    values = settings(args)
    axes = {name: value for name, value in values.items() if name in AXES}
    axes |= (_grid(axes.get("method", (DistillSpec.method,))) if args.grid else {}) | knobs(args)
    return Sweep(DistillSpec(**{name: value for name, value in values.items() if name not in AXES}), axes)


def _grid(methods: Sequence[str]) -> dict[str, Any]:
    """The axes of α and T, as KD-FMV's table has them, that one of these methods has."""
    from kd.methods import METHODS

    known = {name for method in methods for name in METHODS[method].info.hyperparameters}
    return {name: values for name, values in TRIED.items() if name in known}


def sized(wanted: Sweep, args: Namespace, store: Store) -> Sweep:
    """The sweep with the recommended sizes where no flag gives one."""
    data = datasets.inspect(wanted.base.data, store.paths)
    found, reason = sweep_with_sizes(wanted, settings(args), store, data)
    say_size(reason)
    return found


def settings(args: Namespace) -> dict[str, Any]:
    """The fields of DistillSpec that flags were given for."""
    return {item.name: value for item in fields(DistillSpec) if (value := getattr(args, item.name, None)) is not None}


def knobs(args: Namespace) -> dict[str, Any]:
    """The methods' own settings that flags were given for."""
    return {key.removeprefix("knob_"): value for key, value in vars(args).items()
            if key.startswith("knob_") and value is not None}


def train_all(wanted: Sweep, store: Store, ray: str | None = None) -> None:
    """Train the unfinished runs in this process, one after the other. A failed run does not stop the others.

    ray: address of a Ray cluster that does it instead, empty for one of this machine's cores. Raises UsageError when
    the teacher does not finish, since nothing can learn without it.
    """
    data = datasets.inspect(wanted.base.data, store.paths)
    todo = unfinished_runs(wanted, store, data)
    cells = planned_cells(wanted, store)
    say(f"Sweep {wanted.id}: {len(cells)} cells, {len(runs(cells, store))} runs, {len(todo)} to train")
    requests = {one.method: one for cell in cells if (one := request(wanted, cell))}
    for method, one in requests.items():
        if warning := method_warning(one, data):
            say(f"{method}: {warning}")
    try:
        if ray is not None:
            ray_cluster.train_all(todo, store, ray, wanted.base.threads or 1, say)
            teacher = store[cells[0].teacher]
            if teacher.status != FINISHED:
                raise UsageError(f"The teacher {teacher.id} {teacher.status}. {teacher.failure_reason}".strip())
            return
        with _claims(todo) as locks:
            for number, run in enumerate(todo, 1):
                say(f"[{number}/{len(todo)}] {place(run, cells)}")
                _train(run, store, locks)
    except KeyboardInterrupt:
        say("Stopped. The same command goes on from here.")
        raise


def _train(run: Run, store: Store, locks: dict[str, FileLock]) -> None:
    lock = locks.pop(run.id, None) or _claim(run)
    if lock is None:
        status, reason = f"is {run.status} in another program", "It is left to that."
    else:
        try:
            with one_per_machine(run), Epochs(run):
                status, reason = execute(run, store), run.failure_reason
        finally:
            lock.release()
    if status == FINISHED:
        warn(run)
        return
    if not run.spec.teacher and any(run.id == other.spec.teacher for other in store):
        raise UsageError(f"The teacher {run.id} {status}. {reason}".strip())
    say(f"  {run.id} {status}. {reason}".rstrip())


@contextmanager
def _claims(todo: Sequence[Run]) -> Iterator[dict[str, FileLock]]:
    """Mark the runs as queued, so that pages show them as waiting and not as interrupted."""
    locks = {run.id: lock for run in todo[:CLAIMED] if (lock := _claim(run))}
    try:
        yield locks
    finally:
        for lock in locks.values():
            lock.release()


def _claim(run: Run) -> FileLock | None:
    lock = run.lock()
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        return None
    run.clear_cancel()
    run.log("queued")
    return lock


def time_explanations(wanted: Sweep, store: Store) -> None:
    """Measure explanation times, where an architecture has not been measured yet."""
    if timing.missing(wanted, store):
        teacher = store[planned_cells(wanted, store)[0].teacher]
        compute_here(task(teacher, timing.TASK), store, {"sweep": wanted.id})


def as_json(wanted: Sweep, rows: list[Row], store: Store) -> Result:
    """All results in plain values."""
    times, chosen = timing.read(store, wanted), tables.best(rows)
    return {"sweep": wanted.id, **wanted.to_json(), "cells": [tables.record(row) for row in rows],
            "best": chosen.cell.number if chosen and tables.is_proven(chosen) else None,
            "outcome": chosen.outcome.to_json() if chosen and chosen.outcome else None,
            "fronts": {cost: [{"role": point.role, "cell": point.row.cell.number, "test_accuracy": point.accuracy.mean,
                               cost: point.cost(cost)} for point in tables.front(rows, cost)]
                       for cost in tables.COSTS},
            "explanation_times": vars(times) if times else None, "audit": tables.audit_verdict(rows, store),
            "notice": tables.NOTICE}


def _as_text(wanted: Sweep, rows: list[Row], store: Store) -> Result:
    """The table as the result; its explanation goes to stderr."""
    chosen = tables.best(rows)
    if chosen and chosen.outcome:
        lead = "Best" if tables.is_proven(chosen) else "No cell is called best. Highest"
        say(f"{lead} on validation (macro-F1): cell {chosen.cell.number}, {chosen.cell.title}. "
            f"{tables.summary_sentence(chosen)}")
        say_note(tables.best_control_sentence(rows, chosen, store))
        for warning in chosen.outcome.warnings:
            say(warning)
    for row in rows:
        if row.reason:
            say(f"Cell {row.cell.number}: {row.reason}")
    if times := timing.read(store, wanted):
        say(times.words)
    say_note(tables.audit_verdict(rows, store))
    say(f"Scores: mean ± standard deviation over the seeds. {tables.NOTICE}")
    return {"cells": [main_numbers(row, row is chosen) for row in rows]}


def _brief(one: Sweep, store: Store) -> Result:
    rows = tables.table(one, store)
    return {"sweep": one.id, "cells": len(rows), "finished": sum(row.status == FINISHED for row in rows),
            "axes": ", ".join(f"{name} {'|'.join(map(str, values))}" for name, values in one.axes.items())}
