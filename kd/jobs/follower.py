"""Command of the worker processes of a launch: training every run with the main process."""

from kd.errors import Stopped
from kd.jobs.queue import record_failure
from kd.training import distributed


def follow() -> int:
    """Train the main process's runs until it has no more; returns the exit code."""
    try:
        for run, store in distributed.assigned_runs():
            from kd.training.loop import train

            try:
                with distributed.fail_together():
                    train(run, store)
            except Stopped:
                continue
            except Exception as error:
                record_failure(run, error)
                raise
    except KeyboardInterrupt:
        return 130
    return 0
