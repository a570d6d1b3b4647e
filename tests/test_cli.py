import json
import os
import re
import sys

import pytest
from made_sets import make_folder
from PIL import Image
from small import DATA

from kd.__main__ import main, show
from kd.cli.verbs import as_text
from kd.datasets import open_dataset
from kd.paths import default_paths
from kd.store.runs import Store

SMALL = ["--image-size", "32", "--epochs", "1", "--batch-size", "8"]


def run(capsys, *words):
    """Exit code, the JSON object on stdout's last line (or None), and stderr."""
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out and "--json" in words else out, err


def test_the_main_path_without_a_page(capsys, tmp_path):
    root = ["--root", str(tmp_path / "store"), "--json"]
    code, result, _ = run(capsys, "distill", "--data", DATA, "--teacher", "test_resnet", "--student", "plain",
                          "--depth", "2", "--alpha", "0.7", "--temperature", "10", *SMALL, *root)
    assert code == 0
    for part in ("teacher", "control", "student"):
        assert {"run", "accuracy", "macro_f1", "parameters", "flops", "seconds"} <= set(result[part])
    student, teacher = result["student"]["run"], result["teacher"]["run"]

    code, shown, _ = run(capsys, "show", student, *root)
    assert shown["spec"]["method_args"] == {"alpha": 0.7, "temperature": 10.0}
    assert shown["status"] == "finished"

    picture = tmp_path / "a scan.png"
    Image.new("L", (50, 40), 128).save(picture)
    code, _, _ = run(capsys, "compare", student, "--image", str(picture), "--out", str(tmp_path / "c"), *root)
    assert code == 0
    assert {file.suffix for file in (tmp_path / "c").iterdir()} >= {".png", ".npz", ".json"}
    code, compared, _ = run(capsys, "compare", student, "--image", str(picture), "--out", str(tmp_path / "c"),
                            "--explainer", "layer-cam", "--stage", "0", *root)
    assert code == 0
    assert compared["student"]["layer-cam"]["maps"][0]["stage"] == 0
    code, explained, err = run(capsys, "explain", teacher, "--image", str(picture), "--target", "glioma",
                               "--out", str(tmp_path / "e"), "--check", *root)
    assert code == 0
    assert explained["check"]["equal"] and explained["check"]["difference"] < 1e-4
    assert "Grad-CAM equal to pytorch-grad-cam" in err
    assert {file.suffix for file in (tmp_path / "e").iterdir()} >= {".png", ".npz", ".json"}

    words = ["layers", student, "--image", str(picture), "--target", "glioma", "--out", str(tmp_path / "h"), *root]
    code, read, err = run(capsys, *words)
    assert code == 0
    assert read["readouts"] is None
    assert "--linear-probes" in read["notes"][0]
    code, read, err = run(capsys, *words, "--linear-probes")
    assert f"readouts of {student}: computing" in err
    assert set(read["stages"][0]["probabilities"]) == set(read["probabilities"])
    assert {file.suffix for file in (tmp_path / "h").iterdir()} >= {".png", ".npz", ".json"}
    assert "computing" not in run(capsys, *words, "--linear-probes")[2]

    code, scores, _ = run(capsys, "evaluate", student, *root)
    assert scores["accuracy"] == result["student"]["accuracy"]
    code, judged, err = run(capsys, "evaluate", student, "--explainers", "grad-cam,stage-maps", "--agreement",
                            "--localisation", "--faithfulness", "--limit", "8", *root)
    assert code == 0
    assert judged["accuracy"] == scores["accuracy"]
    for name in ("grad-cam", "stage-maps"):
        found = judged["explanations"][name]
        assert found["agreement"]["maps"]["student"]["all"]["spearman"]["excess"]["n"] <= 8
        assert list(found["faithfulness"]) == list(found["localisation"]) == ["teacher", "control", "student"]
    assert f"appraisal of {student}: computing" in err
    _, table, _ = run(capsys, "evaluate", student, "--explainers", "grad-cam", "--limit", "8", *root[:2])
    assert {"explainer", "model", "over_chance", "pointing", "ms"} <= set(table.split())
    code, listed, _ = run(capsys, "runs", *root)
    assert len(listed["runs"]) == 3

    code, _, err = run(capsys, "delete", teacher, *root)
    assert code == 2
    assert "teacher of" in err
    assert run(capsys, "delete", student, *root)[1] == {"deleted": student}


def test_train_and_use_again(capsys):
    words = ["train", "--data", DATA, "--model", "plain", "--depth", "2", *SMALL, "--json"]
    code, first, _ = run(capsys, *words)
    assert code == 0
    code, again, err = run(capsys, *words)
    assert again == first
    assert "used again" in err


def test_datasets_and_models_for_people_and_for_programs(capsys):
    _, listed, _ = run(capsys, "datasets", "--json")
    assert {"phantom-brain", "phantom-fundus", "phantom-dementia"} <= {d["reference"] for d in listed["datasets"]}
    _, found, _ = run(capsys, "models", "densenet121", "--json")
    assert "densenet121" in [model["name"] for model in found["models"]]
    _, text, _ = run(capsys, "models", "halonet26t")
    assert text.split() == ["name", "hub", "sizes", "halonet26t", "True", "256", "512"]
    _, text, _ = run(capsys, "datasets")
    assert "phantom-brain" in text


def test_decoded_images_are_shown_and_cleared(capsys):
    open_dataset(DATA, 32, default_paths())
    _, before, _ = run(capsys, "datasets", "--json")
    assert 0 < before["decoded_cache"]["bytes"] < before["decoded_cache"]["quota"] == 20 * 10**9
    _, _, told = run(capsys, "datasets")
    assert "Decoded images take " in told
    _, after, told = run(capsys, "datasets", "--clear-cache", "--json")
    assert after["decoded_cache"]["bytes"] == 0
    assert "0 GB in use stay" in told


@pytest.mark.parametrize(("words", "message"), [
    (["show", "nothing"], "empty"),
    (["train", "--data", "/nowhere", "--model", "plain"], "/nowhere"),
    (["train", "--data", DATA, "--model", "resnet81"], "Did you mean"),
    (["train", "--data", DATA, "--model", "plain", "--epochs", "0"], "epochs must be between"),
    (["train", "--data", DATA, "--model", "plain", "--epochs", "many"], "epochs"),
    (["distill", "--data", DATA, "--teacher", "test_resnet", "--alpha", "3"], "alpha must be between 0 and 1"),
    (["train", "--data", DATA, "--model", "truncated"], "name of the timm model whose first stages"),
    (["train", "--data", DATA, "--model", "plain", "--pretrained", "hub"], "cannot start from 'hub'"),
    (["train", "--data", DATA, "--model", "plain", "--temprature", "3"], "--temprature 3. See python -m kd train"),
    (["train", "--data", DATA, "--model", "resnet18", "--preset", "none", "--label-smoothing", "1.5"],
     "label_smoothing must be between 0 and 0.9"),
    (["models", "nosuchmodel"], "Try a part of a name"),
    (["fly"], "fly"),
    ([], "VERB"),
])
def test_errors_are_one_sentence_and_exit_2(capsys, words, message):
    code, out, err = run(capsys, *words)
    assert code == 2
    assert message.lower() in err.lower()
    assert out == ""
    assert re.fullmatch(r"kd: [^\n]+\n", err)
    assert not list(Store())


def test_places_that_cannot_be_written_to_are_refused_before_anything_is_computed(capsys, tmp_path):
    file = tmp_path / "a file"
    file.touch()
    sweep = ["sweep", "--data", DATA, "--teacher", "test_resnet", *SMALL, "--root", str(tmp_path)]
    for words, message in ((["demo", "--out", str(file), "--root", str(tmp_path)], "--out: "),
                           (["demo", "--out", str(file / "below"), "--root", str(tmp_path)], "is a file, not a folder"),
                           ([*sweep, "--csv", str(file / "table.csv")], "--csv: "),
                           ([*sweep, "--csv", str(tmp_path)], "is a folder. Name a file in it"),
                           (["runs", "--root", str(file)], "--root: ")):
        code, _, err = run(capsys, *words)
        assert code == 2 and message in err and str(tmp_path) in err, err
    assert list(tmp_path.iterdir()) == [file]


def test_whole_numbers_stay_whole_beside_an_empty_cell():
    lines = as_text({"runs": [{"run": "a", "accuracy": 0.5, "parameters": 245908}, {"run": "b"}]}).splitlines()
    assert [line.split() for line in lines] == [["run", "accuracy", "parameters"], ["a", "0.5", "245908"], ["b"]]


def test_a_pipe_whose_reader_has_ended_is_no_error(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert show("many runs") == 141


def test_an_image_that_is_none_is_named(capsys, tmp_path):
    root = ["--root", str(tmp_path / "store"), "--json"]
    _, result, _ = run(capsys, "train", "--data", DATA, "--model", "plain", "--depth", "2", *SMALL, *root)
    bad = tmp_path / "scan.jpg"
    bad.write_text("no picture")
    for path in (bad, tmp_path / "missing.jpg"):
        code, _, err = run(capsys, "explain", result["run"], "--image", str(path), "--out", str(tmp_path), *root)
        assert code == 2
        assert path.name in err


def test_help_shows_the_reason_of_every_flag(capsys):
    with pytest.raises(SystemExit) as end:
        main(["distill", "--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Passes over the training images" in text
    assert "--temperature" in text


def test_distill_over_seeds(capsys, tmp_path):
    words = ["distill", "--data", DATA, "--teacher", "test_resnet", "--depth", "2", "--seeds", "2", *SMALL,
             "--root", str(tmp_path / "store")]
    code, result, _ = run(capsys, *words, "--json")
    assert code == 0
    assert [one["seed"] for one in result["seeds"]] == [0, 1]
    assert result["student"] == result["seeds"][0]["student"] != result["seeds"][1]["student"]
    summary = result["summary"]
    accuracy = [one["student"]["accuracy"] for one in result["seeds"]]
    assert summary["student"]["accuracy"]["values"] == accuracy
    assert summary["student"]["accuracy"]["mean"] == pytest.approx(sum(accuracy) / 2)
    assert summary["teacher"]["accuracy"]["sd"] is None
    bought = summary["student_minus_control"]
    assert bought["low"] <= bought["points"] <= bought["high"]
    assert bought["verdict"] in ("better", "worse", "not significantly different")
    losses = [one["student"]["nll"] for one in result["seeds"]]
    assert summary["student"]["nll"]["values"] == pytest.approx(losses)
    assert summary["student_minus_control_nll"]["by_seed"] == pytest.approx(
        [one["student"]["nll"] - one["control"]["nll"] for one in result["seeds"]])
    assert summary["student_minus_control_ece"]["by_seed"] == pytest.approx(
        [100 * (one["student"]["ece"] - one["control"]["ece"]) for one in result["seeds"]])
    shown = run(capsys, "show", result["student"]["run"], "--root", str(tmp_path / "store"), "--json")[1]
    assert shown["distillation"] == summary

    code, table, err = run(capsys, *words)
    assert [line.split()[0] for line in table.splitlines()] == ["seed", "0", "1", "all"]
    assert "±" in table
    assert summary["sentence"] in err
    assert re.search(r"The student needs [\d./]+ of the teacher's FLOPs", err)
    assert re.search(r"NLL, nats .* [+−]\d\.\d{3} \(", err)


def test_distill_says_what_a_method_is_on_two_classes(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("kd.cli.verbs.train_here", lambda runs, store: None)
    monkeypatch.setattr("kd.cli.verbs._answer", lambda series, whole: {"student": {"run": series.pairs[0][1].id}})
    words = ["distill", "--data", str(make_folder(tmp_path / "two", {"a": 8, "b": 8})), "--teacher", "test_resnet",
             *SMALL, "--root", str(tmp_path / "store"), "--json"]
    code, result, err = run(capsys, *words, "--method", "dkd")
    assert code == 0
    assert "-dkd-" in result["student"]["run"]
    assert "On two classes there is one other class only" in err
    assert "two classes" not in run(capsys, *words)[2]
    code, _, err = run(capsys, *words, "--method", "logit-std")
    assert code == 2
    assert "cannot be had on two classes" in err


def test_masks_that_explain_nothing_are_said_with_a_way_out(capsys, tmp_path):
    words = ["distill", "--data", DATA, "--teacher", "test_resnet", "--depth", "2", *SMALL, "--method", "medtex",
             "--target-weight", "0", "--root", str(tmp_path / "store")]
    code, result, err = run(capsys, *words, "--json")
    assert code == 0
    student = result["student"]["run"]
    told = f"{student}: Mask collapsed: all open"
    assert err.count(told) == 1
    assert "target_weight" in err
    assert re.search(r"  epoch 1/1 .*  mask \d+ %\n", err)
    assert told in run(capsys, *words)[2], "also where the run is used again"
    code, shown, err = run(capsys, "show", student, "--root", str(tmp_path / "store"), "--json")
    assert told in err
    assert shown["summary"]["mask"]["collapsed"] in err
    assert "mask" not in run(capsys, "show", result["control"]["run"], "--root", str(tmp_path / "store"))[2]
