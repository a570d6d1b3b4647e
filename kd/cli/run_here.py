"""Training and computing in this process, with progress on stderr."""

from collections.abc import Iterable
from typing import Any

from kd.audit.beside import brief_of, verdict_of
from kd.cli.progress import Epochs, Phases, say
from kd.errors import UsageError
from kd.evaluation.run_warnings import first_epoch_line, run_warnings
from kd.jobs.queue import execute, one_per_machine, train_now
from kd.jobs.tasks import Task
from kd.store.runs import FINISHED, Run, Store
from kd.training.teacher import target_scores

Result = dict[str, Any]


def train_here(runs: Iterable[Run], store: Store) -> None:
    """Train the unfinished ones of these runs in this process, in order. Raises UsageError when one does not finish."""
    runs = list(runs)
    for run in runs:
        if run.status == FINISHED:
            say(f"{run.id}: finished before, used again")
            warn(run)
            continue
        with Epochs(run):
            train_now(run, store)
        say_note(first_epoch_line(run))
        warn(run)
    for verdict in dict.fromkeys(map(verdict_of, runs)):
        say_note(verdict)


def warn(run: Run) -> None:
    """Print what to know of a run: what speaks against it, and how often out-of-fold targets were right."""
    for text in (*(warning.text for warning in run_warnings(run)), target_scores.sentence(run.summary)):
        if text:
            say(f"{run.id}: {text}")


def say_note(note: str) -> None:
    """Print a sentence that may be empty."""
    if note:
        say(note)


def say_size(reason: str) -> None:
    """Print why the working size is what it is, where it was recommended."""
    say_note(reason and f"Working size {reason}")


def compute_here(wanted: Task, store: Store, args: dict[str, Any] | None = None) -> None:
    """Compute a task in this process. Raises UsageError when it does not finish."""
    if wanted.state.active:
        raise UsageError(f"{wanted.id} is {wanted.status} in another program. Wait for it, or cancel it there.")
    with wanted.lock(), Phases(wanted):
        wanted.clear_cancel()
        wanted.request(args or {})
        with one_per_machine(wanted):
            status = execute(wanted, store)
    if status != FINISHED:
        raise UsageError(f"{wanted.id} {status}. {wanted.state.reason}".strip())


def brief(run: Run) -> Result:
    """Main results of a run, as `train` and `distill` print them."""
    summary, tested = run.summary or {}, run.evaluation or {}
    found = {**summary, **({"nll": tested.get("loss"), "ece": tested.get("ece")} if summary and tested else {})}
    keys = ("accuracy", "macro_f1", "nll", "ece", "parameters", "flops", "seconds")
    texts = {"warnings": "; ".join(warning.title for warning in run_warnings(run)),
             "audit": brief_of(run).removeprefix("Audit: ") if summary else ""}
    reason = {"reason": run.damage} if run.damaged_file else {}
    return {"run": run.id, "status": run.status, **reason, **{key: found[key] for key in keys if key in found},
            **{name: text for name, text in texts.items() if text}}
