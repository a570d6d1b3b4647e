from itertools import pairwise

import pytest
import torch

from kd.methods.stage_matching import pairs


def grids(*sides):
    return tuple((3, side, side) for side in sides)


RESNET = grids(32, 16, 8, 4, 2)


@pytest.mark.parametrize(("student", "teacher", "expected"), [
    (RESNET, RESNET, ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4))),
    (grids(32, 16, 8, 4, 4), RESNET, ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4))),
    (grids(32), RESNET, ((0, 4),)),  # the last stages meet whatever their grids
    (grids(32, 16, 8), RESNET, ((0, 0), (1, 1), (2, 4))),  # closest first: not 16 with the teacher's 4
    (grids(16, 8, 4), grids(32, 16, 8, 4), ((0, 1), (1, 2), (2, 3))),  # the stem stays alone
    (grids(32, 32, 16, 16, 8, 8, 4, 4), RESNET, ((1, 0), (3, 1), (5, 2), (6, 3), (7, 4))),  # the deeper of equals
    (grids(8, 4), grids(8, 8, 4), ((0, 1), (1, 2))),
    (grids(64, 2), RESNET, ((0, 0), (1, 4))),  # one halving apart is near enough
    (grids(128, 2), RESNET, ((1, 4),)),  # two are not
    (grids(1, 1), grids(1, 1, 1), ((0, 1), (1, 2))),
])
def test_stages_of_like_grids_meet(student, teacher, expected):
    assert pairs(student, teacher) == expected


def test_pairs_never_cross_and_use_each_stage_once():
    source = torch.Generator().manual_seed(0)
    for _ in range(200):
        one, other = (grids(*sorted(torch.randint(1, 40, (int(count),), generator=source).tolist(), reverse=True))
                      for count in torch.randint(1, 9, (2,), generator=source))
        found = pairs(one, other)
        assert found[-1] == (len(one) - 1, len(other) - 1)
        assert all(a < c and b < d for (a, b), (c, d) in pairwise(found))
