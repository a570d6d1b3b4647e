"""Estimate of a sweep: cells, runs and time on this machine."""

from dataclasses import dataclass, replace

from kd import datasets
from kd.datasets import DataRef
from kd.experiments.sweep import Sweep, checked, in_order, series
from kd.spec import RunSpec
from kd.store.runs import FINISHED, Store


@dataclass(frozen=True)
class SweepEstimate:
    """Estimate of a sweep. cells: combinations. runs: of all cells, shared ones once. finished: of these. seconds:
    estimated time of the others."""

    cells: int
    runs: int
    finished: int
    seconds: float


def estimate_sweep(sweep: Sweep, store: Store, data: DataRef | None = None) -> SweepEstimate:
    """Number of cells and runs of a sweep, and estimated time of the unfinished ones here. Raises UsageError.

    Models that have not been timed yet are benchmarked on noise for about a second.
    """
    from kd.experiments.estimate import estimate_resources  # torch: not for pages that only read runs

    data = data or datasets.inspect(sweep.base.data, store.paths)
    found = checked(sweep, store, data)
    done = {spec: _done(spec, store) for spec in in_order([series(trio, sweep.base.seeds) for _, trio in found])}
    costs: dict[RunSpec, float] = {}  # of one run of a kind: a sweep has many runs and few kinds
    total: dict[RunSpec, float] = {}
    teacher_seconds: dict[tuple[str, str], float] = {}  # of a teacher's passes, which all students of a method share
    for _, trio in found:
        teacher, pairs = series(trio, sweep.base.seeds)
        for control, student in pairs:
            three = (teacher, control, student)
            if any(not done[spec] and _kind(spec) not in costs for spec in three):
                needs = estimate_resources(three, data, store).run_estimates
                costs |= {_kind(spec): need.seconds - need.teacher_seconds
                          for spec, need in zip(three, needs, strict=True) if not done[spec]}
                teacher_seconds.setdefault((student.teacher, student.method), needs[-1].teacher_seconds)
            total |= {spec: costs[_kind(spec)] for spec in three if not done[spec]}
    return SweepEstimate(len(found), len(done), sum(done.values()),
                         sum(total.values()) + sum(teacher_seconds.values()))


def _kind(spec: RunSpec) -> RunSpec:
    """The spec without settings that do not affect its time."""
    return replace(spec, seed=0, method_args={})


def _done(spec: RunSpec, store: Store) -> bool:
    run = store.find(spec)
    return run is not None and run.status == FINISHED
