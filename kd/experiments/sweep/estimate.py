"""Estimate of a sweep: cells, runs and time on this machine."""

from dataclasses import dataclass, replace

from kd import datasets
from kd.datasets import DataRef
from kd.experiments.sweep import Sweep, checked
from kd.experiments.sweep.order import in_order, series
from kd.roles import ROLES, STUDENT
from kd.spec import IN_SAMPLE, RunSpec
from kd.store.runs import FINISHED, Store


@dataclass(frozen=True)
class SweepEstimate:
    """Estimate of a sweep. cells: combinations. runs: of all cells, shared ones once. finished: of these. seconds:
    estimated time of the others. saving: the share of the teacher's FLOPs that its students need, in words."""

    cells: int
    runs: int
    finished: int
    seconds: float
    saving: str


def estimate_sweep(sweep: Sweep, store: Store, data: DataRef | None = None) -> SweepEstimate:
    """Number of cells and runs of a sweep, and estimated time of the unfinished ones here. Raises UsageError.

    Models that have not been timed yet are benchmarked on noise for about a second.
    """
    from kd.experiments.estimate import FOLD_TEACHER, estimate_resources  # torch: not for pages that only read runs
    from kd.models.cost import flops_note

    data = data or datasets.inspect(sweep.base.data, store.paths)
    found = checked(sweep, store, data)
    classes = len(data.classes)
    done = {spec: _done(spec, store) for spec in in_order([series(trio, sweep.base.seeds) for _, trio in found])}
    costs: dict[RunSpec, float] = {}  # of one run of a kind: a sweep has many runs and few kinds
    total: dict[RunSpec, float] = {}
    # Of a teacher's passes, which a method's students share.
    teacher_seconds: dict[tuple[str, str, bool, str], float] = {}
    for _, trio in found:
        teacher, folds, pairs = series(trio, sweep.base.seeds)
        for control, student in pairs:
            roles = [*zip(ROLES, (teacher, control, student), strict=True), *((FOLD_TEACHER, fold) for fold in folds)]
            to_do = {spec: role for role, spec in roles if not done[spec]}
            if any(_kind(spec) not in costs for spec in to_do):
                needs = {need.role: need for need in estimate_resources((teacher, control, student), data,
                                                                        store).run_estimates}
                costs |= {_kind(spec): (needs[role].seconds - needs[role].teacher_seconds) / needs[role].runs
                          for spec, role in to_do.items()}
                passes = (student.teacher, student.method, student.soft_targets == IN_SAMPLE, student.unlabelled)
                teacher_seconds.setdefault(passes, needs[STUDENT].teacher_seconds)
            total |= {spec: costs[_kind(spec)] for spec in to_do}
    return SweepEstimate(len(found), len(done), sum(done.values()),
                         sum(total.values()) + sum(teacher_seconds.values()),
                         flops_note(*(_flops(trio[0], classes) / _flops(trio[2], classes) for _, trio in found)))


def _flops(spec: RunSpec, classes: int) -> int:
    from kd.models import cost

    return cost.cost(spec, classes).flops


def _kind(spec: RunSpec) -> RunSpec:
    """The spec without settings that do not affect its time."""
    return replace(spec, seed=0, method_args={}, fold=min(spec.fold, 1))


def _done(spec: RunSpec, store: Store) -> bool:
    run = store.find(spec)
    return run is not None and run.status == FINISHED
