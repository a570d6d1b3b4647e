import pytest

from kd.metrics.grids import coarse_note, is_coarse


@pytest.mark.parametrize(("grid", "coarse"), [((1, 1), True), ((3, 3), True), ((3, 7), True), ((4, 4), False),
                                              ((96, 96), False)])
def test_three_cells_a_side_and_fewer_are_too_coarse(grid, coarse):
    assert is_coarse(grid) is coarse
    assert bool(coarse_note([("Map", grid)])) is coarse


def test_the_note_names_the_maps_by_grid():
    assert coarse_note([("Teacher", (7, 7)), ("Student", (3, 3))]) == "Student: 3×3 cells: too coarse to tell where."
    several = [("teacher", (2, 2)), ("Control", (3, 3)), ("Student", (3, 3)), ("Other", (3, 3)), ("Other", (3, 3))]
    assert coarse_note(several) == ("Teacher: 2×2 cells: too coarse to tell where; Control, Student and Other: "
                                    "3×3 cells: too coarse to tell where.")
    assert coarse_note([]) == ""
