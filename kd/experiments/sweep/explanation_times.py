"""Explanation times of a sweep's models: measured once per architecture, all in turn, and stored."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd.errors import Stopped, UsageError
from kd.experiments.sweep import Sweep, file_of, find, planned_cells, runs
from kd.progress import ProgressCallback, no_progress
from kd.store.files import write_json
from kd.store.runs import FINISHED, Run, Store

REPEATS = 15
TASK = "sweep-times"


@dataclass(frozen=True)
class Times:
    """Explanation times. milliseconds: by architecture (`RunSpec.model_label`), of one image: all stage maps and the
    Grad-CAM of the last stage, sum of the two medians. protocol: of the measurement, plain values."""

    milliseconds: dict[str, float]
    protocol: dict[str, Any]

    @property
    def words(self) -> str:
        """The protocol in one line."""
        used = self.protocol
        threads = f"{used['threads']} thread{'s' if used['threads'] != 1 else ''}"
        return (f"Explanation time of one image of {used['image_size']} px: all stage maps and one Grad-CAM, the sum "
                f"of their medians of {used['repeats']}, every architecture in turn, on {used['device']} with "
                f"{threads}, after one warm-up round; torch {used['torch']}.")


def read(store: Store, sweep: Sweep) -> Times | None:
    """Stored explanation times of a sweep, or None."""
    try:
        return Times(**json.loads(_path(store, sweep).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def missing(sweep: Sweep, store: Store) -> list[Run]:
    """A finished run of every architecture that has not been measured (the time depends on the architecture only).
    Raises UsageError when the sweep was never planned."""
    known = read(store, sweep)
    found = {run.spec.model_label: run for run in reversed(_finished(sweep, store))}
    return [run for label, run in found.items() if known is None or label not in known.milliseconds]


def measure(store: Store, sweep_id: str, progress: ProgressCallback = no_progress,
            should_stop: Callable[[], bool] = lambda: False) -> Times:
    """Time every architecture of a sweep that has a finished run, in turn, and store the result.

    Earlier measurements are repeated, because only times of one session can be compared. Raises UsageError.
    """
    from kd.evaluation.predict import data_of
    from kd.inspection.explain import ExplainRequest, explain_many
    from kd.inspection.model_pool import ModelPool, load_model

    sweep = find(store, sweep_id)
    found = {run.spec.model_label: run for run in reversed(_finished(sweep, store))}
    if not found:
        raise UsageError(f"No run of the sweep {sweep_id} has finished, so there is nothing to time yet.")
    progress("opening the data set", 0.0)
    image = data_of(next(iter(found.values())), store).test.images[0]
    pool = ModelPool()
    subjects = [load_model(run, pool) for run in found.values()]
    if should_stop():
        raise Stopped
    progress("explaining one image by every architecture", 0.1)
    asked = [ExplainRequest(subject, name, 0, stages) for subject in subjects
             for name, stages in (("stage-maps", None), ("grad-cam", (-1,)))]
    answers = explain_many(asked, image, REPEATS)
    sums = [1e3 * (maps.timing.median + cam.timing.median)
            for maps, cam in zip(answers[::2], answers[1::2], strict=True)]
    times = Times(dict(zip(found, sums, strict=True)), {**answers[0].protocol, "repeats": REPEATS})
    write_json(_path(store, sweep), asdict(times))
    return times


def _finished(sweep: Sweep, store: Store) -> list[Run]:
    return [run for run in runs(planned_cells(sweep, store), store) if run.status == FINISHED]


def _path(store: Store, sweep: Sweep) -> Path:
    stored = file_of(sweep, store)
    return stored.parent / "times" / stored.name
