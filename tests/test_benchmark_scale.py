"""The benchmark of many workers, with threads in place of processes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from small import trained

from benchmarks import scale
from kd.store.runs import Store


@pytest.fixture
def teacher(monkeypatch):
    monkeypatch.setattr(scale, "ProcessPoolExecutor", lambda workers, context: ThreadPoolExecutor(workers))
    monkeypatch.setattr(scale, "_ready", lambda number: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return trained(Store(), model="test_resnet", epochs=1)


def test_it_tells_what_cells_cost_and_how_often_a_row_was_computed(teacher, capsys, monkeypatch):
    first, second = specs = scale.students(teacher, views=2, epochs=3, cells=2)
    assert first.method_args != second.method_args
    assert (first.teacher, first.views, first.seed) == (teacher.id, 2, second.seed)
    found = scale.measure(1, specs, teacher)
    assert [(cell.rows, cell.needed) for cell in found.cells] == [(88, 88), (0, 88)], "read by the second"
    assert found.computed == 1
    for cell in found.cells:
        assert cell.total == pytest.approx(sum(getattr(cell, name) for name in scale.PARTS))
        assert min(cell.reading, cell.student, cell.other, cell.processor) > 0 == cell.waiting
    assert found.cells[0].teacher > found.cells[1].teacher
    assert found.wall > max(cell.total for cell in found.cells)
    assert found.line().split()[0] == "1" and found.line().split()[-1] == "1.00"
