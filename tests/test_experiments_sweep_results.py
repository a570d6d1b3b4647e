import csv
import io

import pytest
from made_sweep import SWEEP, WRONG, done, made

from kd.experiments.sweep import Sweep, plan, planned_cells
from kd.experiments.sweep.explanation_times import Times, _path
from kd.experiments.sweep.results import (
    DELETED,
    FLOPS,
    MILLISECONDS,
    PLANNED,
    as_csv,
    best,
    best_control,
    best_control_sentence,
    front,
    points,
    record,
    table,
)
from kd.store.files import write_json
from kd.store.runs import FAILED, FINISHED, QUEUED, RUNNING, Store


@pytest.fixture
def store():
    return Store()


def time(store, **milliseconds) -> None:
    protocol = {"image_size": 64, "threads": 1, "device": "cpu", "torch": "2", "repeats": 3}
    write_json(_path(store, SWEEP), vars(Times(milliseconds, protocol)))


def test_a_row_has_the_cells_numbers_over_its_seeds(store):
    made(store)
    row = table(SWEEP, store)[1]
    found = record(row)
    assert (found["depth"], found["alpha"], found["seeds"], found["status"]) == (2, 0.7, 2, FINISHED)
    assert found["test_accuracy"] == pytest.approx(1 - 15 / 120)
    assert found["test_accuracy_sd"] == pytest.approx(2 / 120 / 2**0.5)
    assert found["control_test_accuracy"] == pytest.approx(1 - 25 / 120)
    assert found["student_minus_control_points"] == pytest.approx(100 * 10 / 120)
    assert found["low"] < found["student_minus_control_points"] < found["high"]
    assert found["val_accuracy"] == pytest.approx(1 - 1.4 * 0.8 / 2)  # of the epoch kept, as fabricated
    assert (found["parameters"], found["flops"], found["explanation_ms"]) == (500, 90_000, None)


def test_the_best_is_chosen_on_validation_and_equals_by_cost(store):
    made(store)  # cells 2 and 4 are level on validation, and 2 is cheaper; on test 3 is the best
    rows = table(SWEEP, store)
    assert best(rows).cell.number == 2
    assert max(rows, key=lambda row: row.arm("student").accuracy.mean).cell.number == 3


def test_equals_in_f1_are_told_apart_by_cross_entropy_on_validation(store):
    found = made(store)
    for cell, loss in ((found[1], 0.6), (found[3], 0.5)):
        for _, student in cell.pairs:
            summary = store[student].summary
            write_json(store[student].path / "summary.json", {**summary, "val_loss": loss})
    assert best(table(SWEEP, store)).cell.number == 4  # dearer than cell 2, with the same macro-F1
    assert record(table(SWEEP, store)[0])["val_macro_f1"] == 0.8


def test_the_best_cell_stands_beside_the_best_control_of_its_architecture(store):
    sweep = Sweep(SWEEP.base, {"depth": (2, 3), "epochs": (1, 2)})
    found = plan(sweep, store)
    done(store[found[0].teacher], 6, 0.95)
    for cell, control, student in zip(found, (0.8, 0.9, 0.95, 0.7), (0.99, 0.8, 0.8, 0.8), strict=True):
        for pair in cell.pairs:
            done(store[pair[0]], 24 if control < 0.9 else 18, control)
            done(store[pair[1]], 12, student)
    rows = table(sweep, store)
    chosen = best(rows)
    assert chosen.cell.number == 1
    assert best_control(rows, chosen).cell.number == 2  # cell 3's is another network's
    text = best_control_sentence(rows, chosen, store)
    assert "cell 2 (depth 2, epochs 2): student − that control +5.0 points" in text
    assert best_control_sentence(rows, rows[1], store) == ""  # its own is the best


def test_the_best_is_among_those_with_the_most_seeds(store):
    found = made(store, seeds=1)
    for run_id, wrong in zip(found[2].pairs[1], (24, 12), strict=True):
        done(store[run_id], wrong, 0.5)
    assert best(table(SWEEP, store)).cell.number == 3
    assert best([]) is None


def test_points_have_teacher_and_controls_once(store):
    made(store)
    found = points(table(SWEEP, store))
    assert [point.role for point in found] == ["control"] * 2 + ["student"] * 4 + ["teacher"]
    assert [point.accuracy.n for point in found] == [2] * 6 + [1]


def test_a_front_is_what_nothing_cheaper_beats_on_validation(store):
    made(store)
    time(store, plain2w4=3.0, plain3w4=2.0, test_resnet=9.0)
    rows = table(SWEEP, store)
    assert [(point.role, point.row.cell.number) for point in front(rows, FLOPS)] == [("student", 2), ("teacher", 1)]
    assert next(point.row.cell.number for point in front(rows, MILLISECONDS)) == 4  # depth 3 is the quicker one here
    assert [point.milliseconds for point in front(rows, MILLISECONDS)] == [2.0, 9.0]


def test_a_front_leaves_out_what_was_not_measured(store):
    made(store)
    assert front(table(SWEEP, store), MILLISECONDS) == []
    time(store, plain2w4=3.0)
    assert {point.row.settings["depth"] for point in front(table(SWEEP, store), MILLISECONDS)} == {2}


def test_status_is_read_off_the_runs(store):
    found = plan(SWEEP, store)
    assert {row.status for row in table(SWEEP, store)} == {PLANNED}
    teacher = store[found[0].teacher]
    with teacher.lock():
        teacher.log(QUEUED)
        assert {row.status for row in table(SWEEP, store)} == {QUEUED}
        teacher.log("started")
        assert {row.status for row in table(SWEEP, store)} == {RUNNING}
    done(teacher, 6, 0.9)
    student = store[found[0].pairs[0][1]]
    student.log("started")
    student.log(FAILED, reason="The loss became nan.")
    store.delete(found[1].pairs[0][1])
    rows = table(SWEEP, store)
    assert [row.status for row in rows] == [FAILED, PLANNED, PLANNED, PLANNED]
    assert rows[0].reason == "The loss became nan."
    for run_id in (found[1].pairs[0][0], *found[1].pairs[1]):
        done(store[run_id], 10, 0.9)
    assert table(SWEEP, store)[1].status == DELETED
    assert table(SWEEP, store)[1].seeds == 1


def test_one_failed_cell_leaves_the_others_their_results(store):
    found = made(store)
    broken = store[found[2].pairs[1][1]]
    for name in ("summary.json", "predictions.npz"):
        (broken.path / name).unlink()
    broken.log(FAILED, reason="The disk is full.")
    rows = table(SWEEP, store)
    assert [(row.status, row.seeds, row.done) for row in rows] == [
        (FINISHED, 2, 4), (FINISHED, 2, 4), (FAILED, 1, 3), (FINISHED, 2, 4)]
    assert best(rows).cell.number == 2


def test_lost_answers_and_lost_epochs_are_gaps_and_no_errors(store):
    found = made(store)
    (store[found[0].pairs[0][1]].path / "predictions.npz").unlink()
    (store[found[1].pairs[0][1]].path / "events.jsonl").unlink()
    rows = table(SWEEP, store)
    assert [row.seeds for row in rows] == [1, 2, 2, 2]
    assert record(rows[1])["val_accuracy"] is None
    assert record(rows[1])["val_macro_f1"] == 0.9


def test_csv_has_settings_seeds_versions_and_what_it_is_not_for(store):
    made(store, seeds=1)
    lines = list(csv.DictReader(io.StringIO(as_csv(SWEEP, table(SWEEP, store), store))))
    assert [line["alpha"] for line in lines] == ["0.4", "0.7"] * 2
    assert lines[0]["seeds"] == "1"
    assert lines[0]["test_accuracy_sd"] == ""
    assert float(lines[2]["test_accuracy"]) == pytest.approx(1 - WRONG[3] / 120)
    assert lines[0]["all: data"] == SWEEP.base.data
    assert lines[0]["all: seed"] == "0"
    assert lines[0]["version: torch"] == "2"
    assert {line["notice"] for line in lines} == {"Not for clinical use."}
    assert lines[0]["sweep"] == SWEEP.id


def test_an_axis_that_means_nothing_to_a_cell_is_empty_in_the_csv(store):
    one = Sweep(SWEEP.base, {"student": ("plain", "timm:test_efficientnet"), "depth": (2, 3)})
    plan(one, store)
    lines = list(csv.DictReader(io.StringIO(as_csv(one, table(one, store), store))))
    assert [line["depth"] for line in lines] == ["2", "3", ""]
    assert len(planned_cells(one, store)) == 3
