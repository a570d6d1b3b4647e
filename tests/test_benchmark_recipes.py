"""The table of fine-tuning recipes, of a small network on a small phantom set."""

from dataclasses import replace

import pytest
from small import DATA, SIZE

from benchmarks import recipes, recipes_fine_tuning
from kd.models import build, weights
from kd.spec import RunSpec


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


def test_an_unknown_table_is_refused():
    with pytest.raises(SystemExit):
        recipes.main(["distillation"])
