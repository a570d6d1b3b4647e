"""Runs that belong together: teacher, control and student, and all seeds of one setting."""

from dataclasses import dataclass, replace
from functools import lru_cache

from kd.spec import IN_SAMPLE, NONE, RunSpec
from kd.store.runs import Run, Store


@dataclass(frozen=True)
class Distillation:
    """The three runs of a distillation. folds: the fold teachers that its student learns from, if any."""

    teacher: Run
    control: Run
    student: Run
    folds: tuple[Run, ...] = ()

    @property
    def trio(self) -> tuple[Run, Run, Run]:
        """Teacher, control and student."""
        return self.teacher, self.control, self.student

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, in the order in which they train."""
        return self.teacher, *self.folds, self.control, self.student


@dataclass(frozen=True)
class Replicates:
    """Replicates of a distillation with other seeds, for the seed variance of control and student; the teacher is the
    same in all.

    pairs: control and student of each seed, by seed. folds: the fold teachers that the students learn from, if any.
    """

    teacher: Run
    pairs: tuple[tuple[Run, Run], ...]
    folds: tuple[Run, ...] = ()

    @property
    def distillations(self) -> tuple[Distillation, ...]:
        """Distillations, one per seed."""
        return tuple(Distillation(self.teacher, *pair, self.folds) for pair in self.pairs)

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, in the order in which they train."""
        return self.teacher, *self.folds, *(run for pair in self.pairs for run in pair)


def teacher_label(spec: RunSpec) -> str:
    """`teacher resnet18`, or `fold teacher 2 of 5, resnet18`."""
    return (f"fold teacher {spec.fold} of {spec.folds}, " if spec.fold else "teacher ") + spec.model_label


def control_of(store: Store, student: Run) -> Run | None:
    """Control of a student: the run with the same spec but no teacher. None when it was deleted."""
    if not student.spec.teacher:
        return None
    return store.find(control_spec(student.spec))


@lru_cache(maxsize=4096)
def control_spec(student: RunSpec) -> RunSpec:
    """Spec of a student's control: the same model, trained on the labels alone, without a mask network and unlabelled
    images, which only a teacher's outputs can train with."""
    return replace(student.without_mask_net, method="supervised", method_args={}, teacher="", soft_targets=IN_SAMPLE,
                   folds=0, unlabelled=NONE, unlabelled_fingerprint="")


def distillation_of(store: Store, student: Run) -> Distillation | None:
    """Teacher, control and student of a student run, where all three are there."""
    control, teacher = control_of(store, student), store.get(student.spec.teacher)
    if control is None or teacher is None:
        return None
    return Distillation(teacher, control, student, tuple(store.fold_teachers(student.spec)))


def replicates_of(store: Store, student: Run) -> Replicates | None:
    """All seeds that are there of a student's settings, each with its control. None where the student's own control
    or teacher was deleted."""
    own = distillation_of(store, student)
    if own is None:
        return None
    wanted = _any_seed(student.spec)
    by_seed = {run.spec.seed: found for run in store
               if _any_seed(run.spec) == wanted and (found := distillation_of(store, run))}
    pairs = tuple((by_seed[seed].control, by_seed[seed].student) for seed in sorted(by_seed))
    return Replicates(own.teacher, pairs, own.folds)


@lru_cache(maxsize=4096)
def _any_seed(spec: RunSpec) -> RunSpec:
    return replace(spec, seed=0)
