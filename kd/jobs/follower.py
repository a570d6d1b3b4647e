"""What a command is for every process of a launch but the first: training along with that one."""

from kd.errors import Stopped
from kd.jobs.queue import record_failure
from kd.training import distributed


def follow() -> int:
    """Train what the chief trains until it is done; returns the exit code."""
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
