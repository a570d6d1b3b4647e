"""Small real runs for tests: drawn phantoms, a narrow student, one of timm's test-sized models."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from kd.datasets import Dataset, open_dataset
from kd.experiments.plan import DistillSpec, plan_first_seed
from kd.jobs.queue import execute
from kd.methods import METHODS
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.groups import Distillation
from kd.store.runs import Run, Store

DATA = "phantom-brain:count=60"
SIZE = 32


@cache
def _drawn_once() -> Path:
    """The cache of a root where DATA has been drawn: that takes longer than a training on it."""
    folder = Path(tempfile.mkdtemp(prefix="kd-lens-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    open_dataset(DATA, SIZE, Paths(folder))
    return Paths(folder).cache


def small_data(paths: Paths) -> Dataset:
    """DATA, decoded under this root as if it had been opened there before."""
    if not paths.cache.exists():
        shutil.copytree(_drawn_once(), paths.cache)
    return open_dataset(DATA, SIZE, paths)


def explainer_of(method: str) -> dict[str, int]:
    """The fields of a student's spec that its method asks for beside the student: the smallest explainer, or none."""
    if not METHODS[method].needs_mask_net:
        return {}
    return {"mask_net_depth": 1, "mask_net_width": 4, "mask_area": 0.25, "mask_target": "sensitivity"}


def spec(**changes) -> RunSpec:
    """A run of a second or so."""
    values = {"data": DATA, "image_size": SIZE, "depth": 2, "width": 4, "epochs": 2, "batch_size": 8, "views": 3}
    return RunSpec(**{**values, **changes})


def request(**changes) -> DistillSpec:
    """A distillation of a few seconds."""
    values = {"data": DATA, "teacher": "test_resnet", "depth": 2, "width": 4, "epochs": 2, "image_size": SIZE,
              "batch_size": 8, "views": 3}
    return DistillSpec(**{**values, **changes})


def trained(store: Store, **changes) -> Run:
    """A finished run."""
    small_data(store.paths)
    run = store.create(spec(**changes))
    status = execute(run, store)
    assert status == "finished", run.failure_reason
    return run


def distilled(store: Store, **changes) -> Distillation:
    """A finished teacher, control and student."""
    small_data(store.paths)
    trio = plan_first_seed(request(**changes), store)
    for run in trio.runs:
        status = execute(run, store)
        assert status == "finished", run.failure_reason
    return trio
