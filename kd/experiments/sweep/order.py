"""The runs of a sweep's cells, in the order in which they train."""

import itertools
from collections.abc import Sequence
from typing import TypeVar

from kd.experiments.plan import with_seeds
from kd.spec import RunSpec

Specs = tuple[RunSpec, RunSpec, RunSpec]
One = TypeVar("One", RunSpec, str)
Series = tuple[One, tuple[One, ...], tuple[tuple[One, One], ...]]
"""Teacher, fold teachers, and control and student of every seed, as specs or as ids."""


def series(trio: Specs, seeds: int) -> Series[RunSpec]:
    """Spec of the teacher, those of the fold teachers, and those of control and student of every seed."""
    teacher, control, student = trio
    pairs = tuple(zip(with_seeds(control, seeds), with_seeds(student, seeds), strict=True))
    return teacher, student.fold_teachers(teacher), pairs


def in_order(series: Sequence[Series[One]]) -> list[One]:
    """Teachers, fold teachers, then for each seed the controls and then the students of all cells; each once."""
    seeds = max((len(pairs) for *_, pairs in series), default=0)
    found = [teacher for teacher, *_ in series] + [fold for _, folds, _ in series for fold in folds]
    for seed, part in itertools.product(range(seeds), (0, 1)):
        found += [pairs[seed][part] for *_, pairs in series if seed < len(pairs)]
    return list(dict.fromkeys(found))
