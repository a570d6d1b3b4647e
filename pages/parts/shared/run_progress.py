"""How far a run is, in words and as a share."""

from collections.abc import Sequence

from kd.store.runs import FINISHED, QUEUED, RUNNING, Run
from pages.parts.shared.format import duration


def share(run: Run) -> float:
    """Finished share of the run's present phase, 0..1."""
    now = run.progress
    if now.get("steps"):
        done = now["epoch"] * now["steps"] + now["step"]
        return min(1.0, max(0.0, done / (now["epochs"] * now["steps"])))
    return min(1.0, max(0.0, float(now.get("share") or 0.0)))


def of_all(runs: Sequence[Run]) -> float:
    """Finished share of several runs together, 0..1."""
    statuses = [run.status for run in runs]
    under_way = sum(share(run) for run, status in zip(runs, statuses, strict=True) if status == RUNNING)
    return (statuses.count(FINISHED) + under_way) / len(runs)


def words(run: Run) -> str:
    """`43 % · 2 min left`, or the phase where there is nothing to count."""
    if run.status == QUEUED:
        return "waiting"
    now = run.progress
    if not now.get("steps"):
        part = f" · {share(run) * 100:.0f} %" if now.get("share") else ""
        return now.get("phase", "starting") + part
    left = now.get("seconds_left")
    return f"{share(run) * 100:.0f} %" + (f" · {duration(left)} left" if left is not None else "")
