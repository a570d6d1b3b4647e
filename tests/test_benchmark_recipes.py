"""The tables on recipes, of a small network on a small phantom set."""

from collections import Counter
from dataclasses import replace

import pytest
from small import DATA, SIZE

from benchmarks import recipes, recipes_fine_tuning, recipes_grid, recipes_students
from kd.models import build, weights
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.runs import Store


def test_every_recipe_has_a_row_and_heads_differ_where_they_are_said_to(tmp_path, monkeypatch, capsys):
    path = tmp_path / "weights.safetensors"
    weights.save(build(RunSpec(model="test_efficientnet", image_size=SIZE), 7), path)
    small = [replace(one, size=SIZE, settings={**one.settings, "epochs": 1}) for one in recipes_fine_tuning.RECIPES[:2]]
    monkeypatch.setattr(recipes_fine_tuning, "RECIPES", small)
    words = ["fine-tuning", "--root", str(tmp_path / "store"), "--data", DATA, "--model", "test_efficientnet",
             "--weights", str(path)]
    recipes.main(words)
    first = capsys.readouterr().out
    [_, _, zero, drawn] = first.splitlines()
    assert zero.startswith(f"| {small[0].name} | {SIZE} | ")
    assert drawn.startswith(f"| {small[1].name} | {SIZE} | ")
    [own], [others] = ([*(tmp_path / "store" / folder / "checkpoints").glob("*/weights.safetensors")]
                       for folder in ("", "drawn-heads"))
    assert own.parent.name == others.parent.name, "the recipes differ in the head alone"
    assert own.read_bytes() != others.read_bytes()
    recipes.main(words)
    assert capsys.readouterr().out == first, "what has finished is used again"
    recipes.main([*words, "--rows", "2"])
    assert capsys.readouterr().out.splitlines()[2:] == [drawn]


def test_students_have_a_row_for_each_recipe_and_data_set(tmp_path, monkeypatch, capsys):
    path = tmp_path / "weights.safetensors"
    weights.save(build(RunSpec(model="test_efficientnet", image_size=SIZE), 7), path)
    quick = {"epochs": 1, "teacher_epochs": 1, "views": 1, "student_size": 0}
    rows = [replace(one, settings={**one.settings, **quick}) for one in recipes_students.RECIPES[:2]]
    monkeypatch.setattr(recipes_students, "RECIPES", rows)
    recipes.main(["students", "--root", str(tmp_path / "store"), "--data", DATA, "--model", "test_efficientnet",
                  "--weights", str(path), "--size", str(SIZE), "--seeds", "2"])
    [_, _, preset, plain] = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [preset[1], plain[1]] == [one.name for one in rows]
    assert preset[3] == plain[3], "the same teachers"
    assert len(preset) == len(recipes_students.HEADER)
    kinds = Counter((run.spec.model, run.spec.method) for run in Store(Paths(tmp_path / "store")))
    assert kinds == {("test_efficientnet", "supervised"): 2, ("truncated", "supervised"): 2, ("truncated", "kd"): 2,
                     ("plain", "supervised"): 2, ("plain", "kd"): 2}


def test_the_grid_has_a_row_for_each_cell_and_a_choice_on_validation(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipes_grid, "ALPHAS", (0.4,))
    monkeypatch.setattr(recipes_grid, "TEMPERATURES", (5.0, 10.0))
    monkeypatch.setattr(recipes_grid, "REPEATS", 1)
    recipes.main(["grid", "--root", str(tmp_path / "store"), "--data", DATA, "--model", "test_resnet",
                  "--size", str(SIZE), "--epochs", "1", "--views", "1"])
    [_, _, first, second, _, choice, times] = capsys.readouterr().out.splitlines()
    cells = [line.strip("| ").split(" | ") for line in (first, second)]
    assert [cell[:2] for cell in cells] == [["0.4", "5"], ["0.4", "10"]]
    best = max(cells, key=lambda cell: float(cell[-1]))
    assert f"α = {best[0]}, T = {best[1]}" in choice or cells[0][-1] == cells[1][-1]
    assert " ms, all of the student's stage maps " in times
    assert len(list(Store(Paths(tmp_path / "store")))) == 4


def test_an_unknown_table_is_refused():
    with pytest.raises(SystemExit):
        recipes.main(["distillation"])
