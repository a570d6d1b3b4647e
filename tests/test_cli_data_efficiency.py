import csv
import json

import pytest
from made_sweep import SWEEP, made
from small import DATA
from test_cli import run

from kd.experiments.data_efficiency import data_efficiency
from kd.experiments.sweep import Sweep, sweeps
from kd.store.runs import Store

SMALL = ["data-efficiency", "--data", DATA, "--teacher", "test_resnet", "--image-size", "32", "--epochs", "1",
         "--batch-size", "8", "--views", "3", "--depth", "2", "--width", "4", "--mask-net-depth", "1"]


def test_from_flags_to_figure_table_and_sentence_and_again(capsys, tmp_path):
    root = ["--root", str(tmp_path / "store"), "--json"]
    words = [*SMALL, "--fractions", "0.5,1", "--seeds", "1", "--alpha", "0.3", "--unlabelled", "none", "--out",
             str(tmp_path / "out"), *root]
    code, result, err = run(capsys, *words)
    assert code == 0
    assert "4 cells, 7 runs, 7 to train" in err
    [study] = result["studies"]
    assert [(point["model"], point["data_fraction"], point["passes"], point["training_images"])
            for point in study["points"]] == [(name, share, passes, images) for name in ("control", "kd", "medtex")
                                              for share, passes, images in ((0.5, 2, 24), (1.0, 1, 44))]
    assert study["complete"]
    assert study["sentence"].startswith("On 12 test images, with one seed: kd is ")
    assert result["base"]["method_args"] == {"alpha": 0.3}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "data-efficiency.csv",
        "data-efficiency.json",
        "data-efficiency.png",
    }
    assert json.loads((tmp_path / "out" / "data-efficiency.json").read_text()) == result
    assert len(list(csv.DictReader((tmp_path / "out" / "data-efficiency.csv").read_text().splitlines()))) == 6

    code, again, err = run(capsys, *words)
    assert again == result
    assert "7 runs, 0 to train" in err
    code, text, err = run(capsys, "data-efficiency", "--show", result["sweep"], *root[:2])
    assert "− control with 100 %" in text
    assert study["sentence"] in err
    assert "In brackets: 95 % bootstrap intervals" in err


def test_defaults_are_three_seeds_and_as_many_steps(capsys, monkeypatch):
    monkeypatch.setattr("kd.cli.data_efficiency.train_all", lambda *_: None)
    monkeypatch.setattr("kd.cli.data_efficiency.table", lambda *_: [])
    assert run(capsys, *SMALL, "--json")[1]["base"] == run(capsys, *SMALL, "--equal-steps", "1", "--seeds", "3",
                                                          "--json")[1]["base"]
    _, result, _ = run(capsys, *SMALL, "--json", "--methods", "kd,dkd", "--equal-steps", "0")
    settings = {"data": DATA, "teacher": "test_resnet", "image_size": 32, "epochs": 1, "batch_size": 8, "views": 3,
                "depth": 2, "width": 4, "mask_net_depth": 1, "equal_steps": 0.0}
    assert result["sweep"] == data_efficiency(settings, ("kd", "dkd")).id
    assert result["axes"] == {"method": ["kd", "dkd"], "unlabelled": ["none", "rest"],
                              "data_fraction": [0.1, 0.25, 0.5, 1.0]}


def test_several_controls_have_a_figure_each(capsys, tmp_path):
    sweep = Sweep(SWEEP.base, {"depth": (2, 3), "data_fraction": (0.5, 1.0)})
    made(Store(), sweep)
    code, text, err = run(capsys, "data-efficiency", "--show", sweep.id, "--out", str(tmp_path / "out"))
    assert code == 0
    assert "depth 2: On 120 test images" in err
    assert "depth 3" in text
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "data-efficiency.csv", "data-efficiency.json", "data-efficiency-1.png", "data-efficiency-2.png"}


@pytest.mark.parametrize(("words", "message"), [
    (["data-efficiency"], "Give the data set"),
    ([*SMALL, "--fractions", "0.5"], "at least two shares"),
    ([*SMALL, "--fractions", "0.1,2"], "data_fraction must be between"),
    ([*SMALL, "--methods", "kd,kdd"], "Did you mean 'kd'"),
    ([*SMALL, "--epochs", "500"], "makes 5000 epochs of 500"),
    (["data-efficiency", "--show", "nothing"], "none has been started"),
])
def test_what_cannot_be_is_one_sentence_and_exit_2(capsys, words, message):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert not sweeps(Store())


def test_a_sweep_without_shares_is_refused(capsys):
    made(Store())
    code, _, err = run(capsys, "data-efficiency", "--show", SWEEP.id)
    assert code == 2
    assert "one share of the data only" in err
