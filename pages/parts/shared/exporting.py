"""Progress of an export, and its start: on a run's page, and where an 8-bit student is missing."""

from kd.store.runs import Run
from pages.parts.shared.task_progress import start_task, task_progress

TASK = "export"


def export_progress(run: Run) -> bool:
    """Progress while a run is exported, and the reason of a failure. Returns whether it is being exported."""
    return task_progress(run, TASK, "Export")


def start_export(run: Run, format: str, int8: bool) -> None:
    """Queue an export, and draw the page anew."""
    start_task(run, TASK, {"format": format, "int8": int8})
