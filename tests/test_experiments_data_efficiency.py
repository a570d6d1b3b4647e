"""A study of less data: the sweep that it prepares, and what is read off it, against cases computed by hand."""

import csv
import io
from dataclasses import replace

import pytest
from made_sweep import SWEEP, done, made
from PIL import Image
from small import DATA, request

from kd.errors import UsageError
from kd.experiments.data_efficiency import DEFAULTS, FRACTIONS, data_efficiency
from kd.experiments.data_efficiency.curves import LearningCurves, learning_curves
from kd.experiments.data_efficiency.figure import SHADES, draw, places, reach, style
from kd.experiments.data_efficiency.report import as_csv, lines, rows, sentence, to_json
from kd.experiments.plan import plan_specs
from kd.experiments.sweep import Sweep, plan, runs
from kd.experiments.sweep import request as cell_request
from kd.experiments.sweep.results import table
from kd.store.files import write_json
from kd.store.runs import Store

SETTINGS = {"data": DATA, "teacher": "test_resnet", "depth": 2, "width": 4, "epochs": 4, "image_size": 64, "seeds": 2,
            "batch_size": 8, "views": 3}
CONTROL = {0.1: 60, 0.25: 36, 0.5: 25, 1.0: 24}  # of 120 test images wrong with the first seed; two more with the next
STUDENT = {"kd": {0.1: 40, 0.25: 25, 0.5: 24, 1.0: 24}, "medtex": {0.1: 80, 0.25: 37, 0.5: 25, 1.0: 18}}


@pytest.fixture
def store():
    return Store()


def answered(store: Store, sweep: Sweep, seeds: int = 2, controls: bool = True) -> None:
    """Planned; teacher, controls and students of so many seeds have finished."""
    cells = plan(sweep, store)
    teacher = store[cells[0].teacher]
    done(teacher, 6, 0.95)
    write_json(teacher.path / "summary.json", {**teacher.summary, "data": {"counts": {"train": [12, 11, 11, 10]}}})
    for cell in cells:
        share, method = cell.settings["data_fraction"], cell.settings.get("method", sweep.base.method)
        for seed, (control, student) in enumerate(cell.pairs[:seeds]):
            if controls:
                done(store[control], CONTROL[share] + 2 * seed, 0.7)
            done(store[student], STUDENT[method][share] + 2 * seed, 0.8)


def labelled_only(methods=("kd", "medtex"), **changes) -> Sweep:
    """The study without unlabelled images."""
    return data_efficiency({**SETTINGS, **changes}, methods, unlabelled=("none",))


def read(store: Store, sweep: Sweep) -> LearningCurves:
    [study] = learning_curves(sweep, table(sweep, store), store)
    return study


def test_it_is_a_sweep_of_methods_and_shares_with_one_control_and_teacher(store):
    sweep = labelled_only()
    assert sweep == Sweep(request(**SETTINGS, equal_steps=1.0), {"method": ("kd", "medtex"),
                                                             "data_fraction": (0.1, 0.25, 0.5, 1.0)})
    assert data_efficiency({**SETTINGS, "seeds": 3}) == data_efficiency({name: value for name, value in SETTINGS.items()
                                                             if name != "seeds"})
    cells = plan(sweep, store)
    assert len({cell.teacher for cell in cells}) == 1
    assert len(runs(cells, store)) == 1 + 2 * (4 + 8)
    by_share = {cell.settings["data_fraction"]: {other.pairs for other in cells} for cell in cells}
    for share in by_share:
        first, second = (cell for cell in cells if cell.settings["data_fraction"] == share)
        assert [pair[0] for pair in first.pairs] == [pair[0] for pair in second.pairs]
        control, student = (store[run_id].spec for run_id in second.pairs[0])
        assert control.mask_net_depth == 0 < student.mask_net_depth
        assert control.epochs == student.epochs == round(4 / share)
    assert store[cells[0].teacher].spec.epochs == 4


@pytest.mark.parametrize("fractions", [(0.5,), (0.5, 0.5), ()])
def test_one_share_is_no_study(fractions):
    with pytest.raises(UsageError, match="at least two shares"):
        data_efficiency(SETTINGS, fractions=fractions)


def test_too_many_passes_are_refused_before_anything_is_made(store):
    with pytest.raises(UsageError, match=r"0\.1 with equal_steps 1 makes 1500 epochs of 150; a run has 1000 at most"):
        plan(data_efficiency({**SETTINGS, "epochs": 150}), store)
    assert not list(store)
    assert plan_specs(cell_request(data_efficiency({**SETTINGS, "epochs": 150, "equal_steps": 0.0}),
                              plan(labelled_only(), store)[0]), store)


def test_every_number_of_a_point(store):
    sweep = labelled_only()
    answered(store, sweep)
    study = read(store, sweep)
    assert [(curve.name, curve.role) for curve in study.curves] == [("control", "control"), ("kd", "student"),
                                                                    ("medtex", "student")]
    assert study.images == {0.1: 4, 0.25: 12, 0.5: 23, 1.0: 44}  # reckoned per class: it was never decoded
    assert (study.tested, study.people, study.seeds, study.whole) == (120, None, 2, True)
    assert (study.teacher, study.teacher_accuracy, study.majority) == ("test_resnet", 0.95, 0.25)
    control, kd, _ = study.curves
    point = kd.points[0]
    assert (point.fraction, point.images, point.passes, point.seeds) == (0.1, 4, 40, (0, 1))
    assert point.accuracy.values == pytest.approx((80 / 120, 78 / 120))
    assert point.interval.mean == pytest.approx(79 / 120)
    assert point.interval.low == pytest.approx(79 / 120 - 1.96 * (0.658 * 0.342 / 120) ** 0.5, abs=0.02)
    assert point.vs_control.value == pytest.approx(100 * 20 / 120)
    assert point.vs_full_control.value == pytest.approx(-100 * 16 / 120)
    assert control.points[0].vs_control is None
    assert control.points[-1].vs_full_control.value == 0
    assert [curve.enough.fraction for curve in study.curves] == [0.5, 0.25, 0.5]


def test_nothing_is_said_of_shares_below_one_that_is_still_to_come(store):
    """With 25 % medtex may be worse yet, however well it does with 10 %."""
    sweep = labelled_only()
    answered(store, sweep)
    kd = read(store, sweep).curves[1]
    assert replace(kd, points=(kd.points[0], *kd.points[2:])).enough.fraction == 0.5
    assert replace(kd, points=kd.points[:3]).enough is None


def test_one_persons_pictures_prove_nothing_and_can_still_be_drawn(store):
    sweep = labelled_only()
    answered(store, sweep)
    study = read(store, sweep)
    few = [replace(one, low=None, high=None, people=1) for curve in study.curves for point in curve.points
           for one in (point.vs_full_control,)]
    curves = tuple(replace(curve, points=tuple(
        replace(point, interval=replace(point.interval, low=None, high=None), vs_full_control=few[0],
                vs_control=point.vs_control and few[0]) for point in curve.points)) for curve in study.curves)
    alone = replace(study, curves=curves, people=1)
    assert "better" not in sentence(alone) and "worse" not in sentence(alone)
    assert sentence(alone).endswith("Too few patients for intervals: a gain may be random.")
    assert draw(alone)
    assert "too few patients for an interval" in rows(alone)[0]["− control with 100 %"]


def test_the_sentence_says_where_it_helps_and_where_not(store):
    sweep = labelled_only()
    answered(store, sweep)
    said = sentence(read(store, sweep))
    assert said.startswith("On 120 test images, on average over 2 seeds: kd is better than the control with 10 % "
                           "(+16.7 points, +1")
    assert "in 2 of 2 seeds) and 25 % (+9.2 points" in said
    assert "not significantly different from it with 50 % and 100 % of the images; medtex is better than the control " \
        "with 100 %" in said
    assert "worse than it with 10 % (−16.7 points" in said
    assert said.endswith("Not significantly worse than the control with 100 %: kd from 25 % on, medtex from 50 % "
                         "on, the control itself from 50 % on.")


def test_where_the_control_needs_no_more_data_nothing_is_claimed(store, monkeypatch):
    monkeypatch.setitem(CONTROL, 0.1, 25)
    monkeypatch.setitem(CONTROL, 0.25, 25)
    sweep = labelled_only(["kd"], seeds=1)
    answered(store, sweep, 1)
    said = sentence(read(store, sweep))
    assert ", with one seed: kd is worse than the control" in said
    assert "The control itself is not significantly worse with 10 % than with 100 %" in said


def test_as_far_as_it_has_come(store):
    sweep = labelled_only(["kd"])
    rows_of = plan(sweep, store)
    assert learning_curves(sweep, table(sweep, store), store) == []
    done(store[rows_of[0].teacher], 6, 0.95)
    assert learning_curves(sweep, table(sweep, store), store) == []
    done(store[rows_of[0].pairs[0][0]], 60, 0.7)
    study = read(store, sweep)
    assert [len(curve.points) for curve in study.curves] == [1, 0]
    assert sentence(study) == ("So far: on 120 test images, with one seed: no student has finished beside its control "
                               "yet.")
    assert study.images[0.1] is None
    assert draw(study)
    answered(store, sweep, 1)
    study = read(store, sweep)
    assert not study.whole
    assert sentence(study).startswith("So far: on 120")
    assert [point.accuracy.n for curve in study.curves for point in curve.points] == [1] * 8


def test_any_sweep_over_shares_is_read_with_a_study_for_each_control(store):
    sweep = Sweep(replace(SWEEP.base, seeds=1), {"depth": (2, 3), "alpha": (0.4, 0.7), "data_fraction": (0.5, 1.0)})
    made(store, sweep, 1)
    found = learning_curves(sweep, table(sweep, store), store)
    assert [study.title for study in found] == ["depth 2", "depth 3"]
    assert [curve.name for curve in found[0].curves] == ["control", "kd, alpha 0.4", "kd, alpha 0.7"]
    assert found[0].curves[0].points[0].passes == SWEEP.base.epochs
    assert learning_curves(SWEEP, table(SWEEP, store) if made(store) else [], store) == []
    assert len(list(csv.DictReader(io.StringIO(as_csv(sweep, found, table(sweep, store), store))))) == 12


def test_tables_have_every_point_and_what_it_is_not_for(store):
    sweep = labelled_only()
    answered(store, sweep)
    study = read(store, sweep)
    assert len(rows(study)) == len(lines(study)) == 12
    assert rows(study)[4]["model"] == "kd"
    assert rows(study)[4]["− control"].startswith("+16.7 (+")
    written = list(csv.DictReader(io.StringIO(as_csv(sweep, [study], table(sweep, store), store))))
    assert written[4]["training_images"] == "4"
    assert written[4]["by_seed"] == "0.6667 0.6500"
    assert written[4]["minus_control_verdict"] == "better"
    assert written[4]["all: equal_steps"] == "1.0"
    assert written[4]["version: torch"] == "2"
    assert {line["notice"] for line in written} == {"Not for clinical use."}
    assert to_json(study)["sentence"] == sentence(study)


def test_the_figure_is_a_picture_with_room_for_all(store, tmp_path):
    sweep = labelled_only()
    answered(store, sweep)
    study = read(store, sweep)
    (tmp_path / "study.png").write_bytes(draw(study))
    with Image.open(tmp_path / "study.png") as picture:
        assert picture.width > 1200
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50
    low, high = reach(study)
    assert low < min(point.interval.low for curve in study.curves for point in curve.points)
    assert high > study.teacher_accuracy
    assert len({style(study, curve) for curve in study.curves}) == 3
    assert style(study, study.students[0])[0] == SHADES[0]
    spots = [places(study, curve) for curve in study.curves]
    assert spots[0][0] < spots[1][0] == 0 < spots[2][0] < 0.5


def test_defaults_are_settings_that_exist():
    assert replace(request(), **DEFAULTS)


def test_students_with_the_rest_unlabelled_are_curves_of_their_own_that_end_at_all_images(store):
    sweep = data_efficiency(SETTINGS, ("kd", "dkd"))
    cells = plan(sweep, store)
    assert [cell.title for cell in cells if cell.settings["data_fraction"] == 0.1] == [
        "kd, data fraction 0.1", "kd, rest unlabelled, data fraction 0.1", "dkd, data fraction 0.1"]
    assert [cell.title for cell in cells if cell.settings["data_fraction"] == 1] == ["kd, data fraction 1",
                                                                                   "dkd, data fraction 1"]
    first, second, third = (store[cell.pairs[0][1]].spec for cell in cells if cell.settings["data_fraction"] == 0.1)
    assert (first.unlabelled, second.unlabelled, third.unlabelled) == ("none", "rest", "none")
    assert len({cell.pairs[0][0] for cell in cells}) == len(FRACTIONS)  # one control a share
    teacher = store[cells[0].teacher]
    done(teacher, 6, 0.95)
    for cell in cells:
        for seed, (control, student) in enumerate(cell.pairs):
            wrong = CONTROL[cell.settings["data_fraction"]] + 2 * seed
            done(store[control], wrong, 0.7)
            done(store[student], wrong - 10 * (cell.settings["unlabelled"] == "rest"), 0.8)
    study = read(store, sweep)
    assert [curve.name for curve in study.curves] == ["control", "kd", "kd, rest unlabelled", "dkd"]
    _, kd, rest, _ = study.curves
    assert [point.fraction for point in rest.points] == list(FRACTIONS)
    assert rest.points[-1] == kd.points[-1]
    assert rest.points[0].vs_control.value == pytest.approx(100 * 10 / 120)
    assert kd.points[0].vs_control.value == 0


def test_one_kind_of_unlabelled_images_is_named_with_the_method(store):
    sweep = data_efficiency({**SETTINGS, "seeds": 1}, ["kd"], (0.1, 0.5), ["rest"])
    answered(store, sweep, 1)
    assert [curve.name for curve in read(store, sweep).curves] == ["control", "kd, rest unlabelled"]
