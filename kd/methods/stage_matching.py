"""Stage matching: pairs of a student's and its teacher's stages."""

import math

from kd.methods.base import Shapes

FARTHEST = 1.5  # halvings; a network without padding is off by a rim, so two grids of one level are not quite equal


def pairs(student: Shapes, teacher: Shapes) -> tuple[tuple[int, int], ...]:
    """Pairs (student's stage, teacher's stage) of similar grids, from the input side; each stage is in one at most.

    The last stages are a pair whatever their grids. Of the others, the closest grids are paired first (on a log scale;
    among equals the deeper), no two pairs cross, and a stage without a partner within FARTHEST halvings stays unpaired:
    most often the teacher's stem.
    """
    found = [(len(student) - 1, len(teacher) - 1)]
    possible = [(s, t) for s in range(len(student) - 1) for t in range(len(teacher) - 1)]
    for s, t in sorted(possible, key=lambda pair: (_apart(student[pair[0]], teacher[pair[1]]), -pair[0], -pair[1])):
        if _apart(student[s], teacher[t]) < FARTHEST and all((s - a) * (t - b) > 0 for a, b in found):
            found.append((s, t))
    return tuple(sorted(found))


def _apart(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Number of halvings between two grids."""
    return abs(math.log2(one[1] * one[2] / (other[1] * other[2]))) / 2
