"""The report of a distillation: opened and read, with names that would be markup if they could."""

import atexit
import shlex
import shutil
import tempfile
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from fabricate import series, trio
from made_sets import make_folder
from report_reader import Report
from small import distilled, small_data

from kd.__main__ import main
from kd.api.distillation import Experiment
from kd.cli.parser import parser
from kd.cli.verbs import _settings
from kd.errors import UsageError
from kd.evaluation import predict
from kd.evaluation.report import image_case, model_report
from kd.evaluation.row_words import between, gap, side_by_side
from kd.experiments.plan import DistillSpec, plan_single_run, plan_specs
from kd.experiments.results import distillation_result, sentence
from kd.paths import Paths
from kd.reporting import build, content
from kd.reporting.cases import disagreements, failures, successes
from kd.reporting.content import subject
from kd.reporting.files import report_made, report_path, reportable
from kd.reporting.page import SECTIONS
from kd.reporting.recipe import recipe
from kd.roles import ROLES
from kd.store.files import write_json
from kd.store.groups import replicates_of
from kd.store.runs import Store
from kd.wording import percent

HOSTILE = ("<img src=x onerror=alert(1)>", "{{ 7 * 7 }} & $x_1$ \"quoted\"")


@cache
def _made_once() -> tuple[Path, str]:
    folder = Path(tempfile.mkdtemp(prefix="kd-lens-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = make_folder(folder / "data" / "odd", {f"{part}/{name}": count for name in HOSTILE
                                                 for part, count in (("train", 10), ("test", 6))})
    store = Store(Paths(folder))
    made = distilled(store, data=str(data), epochs=1)
    assert main(["report", made.student.id, "--root", str(folder)]) == 0
    return folder, made.student.id


@pytest.fixture
def store():
    return Store(Paths(_made_once()[0]))


@pytest.fixture
def student(store):
    return store[_made_once()[1]]


@pytest.fixture
def report(student):
    return Report(report_path(student).read_text())


def test_a_report_has_all_sections_in_order_and_headings_without_gaps(report):
    assert report.sections == list(SECTIONS)
    assert report.headings[0] == 1
    assert report.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(report.headings, report.headings[1:], strict=False))
    assert report.text.count("Not for clinical use.") == 2
    assert len(report.ids) == len(set(report.ids))


def test_a_report_is_one_small_file_that_asks_nobody(report):
    assert report.outside == []
    assert not {"script", "link", "iframe", "object", "embed"} & set(report.tags)
    assert "http" not in report.html.replace("http-equiv", "")
    assert len(report.html) < 2_000_000


def test_names_from_the_data_are_text(report):
    assert all(image["src"].startswith("data:image/jpeg") for image in report.images)
    for name in HOSTILE:
        assert report.row(name)[0] == name
        assert name in report.text
    assert all(image["alt"] for image in report.images)


def test_numbers_are_those_of_the_evaluation(report, store, student):
    runs = subject(store, student).cast
    for place, role in enumerate(ROLES, 1):
        score = runs[role].evaluation
        assert report.row("Accuracy")[place].startswith(percent(score["accuracy"]))
        assert report.row("Macro-F1")[place].startswith(percent(score["macro_f1"]))
        for name, recall in zip(HOSTILE, score["recall"], strict=True):
            assert report.row(name, 1)[place].startswith(percent(recall))
    whole = distillation_result(replicates_of(store, student))
    assert sentence(whole) in report.text
    assert whole.warnings
    assert all(warning in report.text for warning in whole.warnings)
    assert student.spec.data_fingerprint in report.text
    assert "has not been audited" in report.text


def test_the_command_in_a_report_trains_the_same_runs(report, store, student):
    series = replicates_of(store, student)
    found = recipe(series, store)
    assert found.exact
    [command] = found.commands
    assert command in report.text
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:3] == ["python", "-m", "kd"]
    args = parser().parse_args(words[3:])
    assert args.preset == "none"
    wanted = (series.teacher.spec, *(run.spec for run in series.pairs[0]))
    assert plan_specs(DistillSpec(**_settings(args)), store) == wanted


def test_a_command_that_cannot_be_checked_is_not_called_exact(tmp_path):
    store = Store()
    _, _, student = trio(store, data=str(tmp_path / "gone"))
    found = recipe(replicates_of(store, student), store)
    assert not found.exact
    assert "could not be checked" in found.note


def test_a_teacher_of_another_seed_is_trained_first(tmp_path, student):
    shutil.copytree(_made_once()[0], tmp_path / "copy")
    store = Store(Paths(tmp_path / "copy"))
    first = store[student.spec.teacher]
    spec = replace(first.spec, seed=7)
    teacher = type(first)(Path(shutil.copytree(first.path, store.path / spec.id)))
    write_json(teacher.path / "spec.json", spec.to_json())
    learner = store.create(replace(student.spec, teacher=teacher.id))
    found = recipe(replicates_of(store, learner), store)
    assert found.exact
    assert [line.split()[3] for line in found.commands] == ["train", "distill"]
    assert f"--teacher {teacher.id}" in found.commands[1]
    words = shlex.split(found.commands[0].replace("\\\n", ""))
    assert plan_single_run(_settings(parser().parse_args(words[3:])), store) == spec


def test_only_a_finished_student_is_reported(store, student):
    assert reportable(store, student) == student
    with pytest.raises(UsageError, match=student.id):
        reportable(store, store[student.spec.teacher])
    planned = trio(own := Store(), done=False)[2]
    with pytest.raises(UsageError, match="planned"):
        reportable(own, planned)
    assert report_made(planned) == 0
    assert report_made(student) > 0


def test_out_names_a_file(capsys, tmp_path, student, store):
    assert main(["report", student.id, "--root", str(store.paths.root), "--out", str(tmp_path)]) == 2
    assert "report.html" in capsys.readouterr().err


class TestCases:
    @pytest.fixture
    def scored(self):
        teacher, _, student = trio(Store())  # 6 and 12 of 120 wrong
        return model_report("teacher", teacher), model_report("student", student)

    def test_a_success_of_every_class_with_an_outline_where_there_is_one(self, scored):
        outlined = np.zeros(120, bool)
        outlined[[40, 100]] = True  # of the first class
        found = successes(*scored, outlined)
        assert [one.truth for one in found.cases] == ["glioma", "meningioma", "none", "pituitary"]
        assert all(one.teacher == one.student == one.truth for one in found.cases)
        assert found.cases[0].index in (40, 100)
        assert "outlined" in found.rule
        assert "outlined" not in successes(*scored, None).rule

    def test_disagreements_are_where_probabilities_are_farthest_apart(self, scored):
        found = disagreements(*scored, [])
        assert {one.index for one in found.cases} <= set(range(6, 12))
        assert {one.index for one in disagreements(*scored, range(6, 12)).cases} == set()

    def test_failures_are_shown_once_and_counted_in_full(self, scored):
        wrong, shared = failures(*scored, [0])
        found = [one.index for group in (wrong, shared) for one in group.cases]
        assert len(wrong.cases) == 3
        assert len(found) == len(set(found))
        assert set(found) <= set(range(1, 12))
        assert "12 in all" in wrong.rule
        assert all(one.teacher == one.student != one.truth for one in shared.cases)
        assert shared.cases[0] == image_case(shared.cases[0].index, *scored)
        assert failures(*scored, range(120)) == ()


class TestRowWords:
    def test_a_value_has_its_unit_and_its_interval(self):
        teacher, control, _ = trio(Store())
        found = [model_report(*one) for one in (("teacher", teacher), ("control", control))]
        rows = [row for one in found for row in one.rows]
        assert between(rows[0]) == "95.0 % (89.5–97.7)"
        assert gap(-0.008, -0.02, 0.01, "share") == "−0.8 points (−2.0 to 1.0)"
        lines = side_by_side(rows, {"teacher": "T", "control": "C"})
        assert lines[0] == {"": "accuracy", "T": "95.0 % (89.5–97.7)", "C": "85.0 % (77.5–90.3)", "Baseline": "25.0 %"}
        assert set(side_by_side(rows, {"teacher": "T"}, "Chance")[0]) == {"", "T", "Chance"}


def test_a_report_tells_of_several_seeds_and_evaluated_maps(tmp_path, monkeypatch):
    store = Store()
    student = series(store).pairs[0][1]
    explained = {"explainer": "grad-cam", "lines": [{"": "pointing game", "Value": "0.5"}], "images": 3, "notes": [],
                 "sentences": ["Blurring the evidence away keeps 93 % of the teacher's decisions."]}
    monkeypatch.setattr(content, "explained", lambda store, student: [explained])
    monkeypatch.setattr(build, "_groups", lambda about, maker: ([], []))  # random weights have nothing to show
    monkeypatch.setattr(predict, "data_of", lambda run, store: small_data(store.paths))
    found = Report(build.build(store, student, str(tmp_path / "some.html")).read_text())
    assert [row[:3] for row in found.rows if row[:1] == ["All"]] == [["All", "83.3 ± 1.7", "86.7 ± 3.3"]]
    assert found.row("Pointing game") == ["Pointing game", "0.5"]
    assert explained["sentences"][0] in found.text
    assert "validation accuracy" in found.text
    assert not report_path(student).exists()


def test_everything_of_a_run_is_packed_but_what_only_resumes_or_caches(capsys, tmp_path, monkeypatch, student):
    monkeypatch.chdir(tmp_path)
    run = type(student)(Path(shutil.copytree(student.path, tmp_path / "checkpoints" / student.id)))
    for name in ("resume.pt", "teacher_outputs/1.npz", "tasks/report.json", ".hidden", "export/onnx/model.onnx"):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_bytes(b"0" * 1000)
    assert main(["pack", run.id, "--root", str(tmp_path)]) == 0
    with zipfile.ZipFile(tmp_path / f"{run.id}.zip") as archive:
        names = {name.removeprefix(f"{run.id}/") for name in archive.namelist()}
        assert archive.read(f"{run.id}/spec.json") == (run.path / "spec.json").read_bytes()
        assert run.spec.teacher in archive.read(f"{run.id}/README.txt").decode()
    assert {"README.txt", "spec.json", "events.jsonl", "summary.json", "evaluation.json", "predictions.npz",
            "weights.safetensors", "report.html", "export/onnx/model.onnx"} <= names
    assert not [name for name in names if name.startswith(("resume", "teacher_outputs", "tasks", ".", "progress"))]
    capsys.readouterr()
    assert main(["pack", trio(Store(Paths(tmp_path)), done=False)[2].id, "--root", str(tmp_path)]) == 2
    assert "planned" in capsys.readouterr().err


def test_a_report_can_be_had_in_python(tmp_path, monkeypatch, store, student):
    monkeypatch.setattr(build, "_groups", lambda about, maker: ([], []))
    found = Experiment(store, replicates_of(store, student)).report(tmp_path / "mine.html")
    assert found == tmp_path / "mine.html"
    assert student.id in found.read_text()
