"""What `import kd` offers: the calls of the README, in a script, in a notebook, and interrupted."""

import inspect
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from small import DATA, SIZE

import kd
from kd.api.images import as_image, as_original
from kd.api.progress import ProgressBar
from kd.errors import UsageError
from kd.experiments.plan import DistillSpec
from kd.methods import METHODS
from kd.paths import Paths
from kd.store.runs import Run, Store

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"teacher": "test_resnet", "student": "plain", "depth": 2, "width": 4, "epochs": 2, "image_size": SIZE,
         "batch_size": 8, "views": 3, "progress": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def run(root) -> kd.Experiment:
    """A distillation of two seeds."""
    with pytest.MonkeyPatch.context() as patch:  # `own_root` is of a test, and this comes before
        patch.setenv("KD_LENS_LOCK", str(root / "worker.lock"))
        return kd.distill(DATA, root=root, alpha=0.4, seeds=2, **SMALL)


def test_every_public_name_is_there_and_documented():
    assert {*kd.__all__} <= {*dir(kd)}
    for name in kd.__all__:
        assert inspect.getdoc(getattr(kd, name)), name
    with pytest.raises(AttributeError, match="module 'kd' has no attribute 'distil'"):
        kd.distil  # noqa: B018


def test_the_types_promised_are_the_names_offered():
    """Type checkers read the imports at the top of kd/__init__.py; a program is given what is in __all__."""
    stated = {line.split()[-1] for line in (ROOT / "kd" / "__init__.py").read_text().splitlines()
              if line.startswith("    from kd")}
    assert stated == {*kd.__all__} - {"__version__"}


def test_results_are_a_table_of_the_three(run):
    table = run.results
    assert isinstance(table, pd.DataFrame)
    assert list(table.index) == ["teacher", "control", "student"]
    assert table.loc["teacher", "model"] == "test_resnet"
    assert table["seeds"].tolist() == [1, 2, 2]
    scores = [[pair[number].summary["accuracy"] for pair in run.series.pairs] for number in (0, 1)]
    for role, values in zip(("control", "student"), scores, strict=True):
        assert table.loc[role, "accuracy"] == pytest.approx(np.mean(values))
        assert table.loc[role, "accuracy_sd"] == pytest.approx(np.std(values, ddof=1))
    assert np.isnan(table.loc["teacher", "accuracy_sd"])
    assert table.loc["student", "minus_control"] == pytest.approx(np.mean(scores[1]) - np.mean(scores[0]))
    assert table.loc["student", "minus_teacher"] == pytest.approx(
        np.mean(scores[1]) - run.teacher.summary["accuracy"])
    assert table.loc[["teacher", "control"], "minus_control"].isna().all()
    for name, low, high in ((name, f"{name}_low", f"{name}_high") for name in ("accuracy", "minus_control")):
        assert table.loc["student", low] <= table.loc["student", name] <= table.loc["student", high]
    for name, key in (("nll", "loss"), ("ece", "ece")):
        own, others = ([pair[number].evaluation[key] for pair in run.series.pairs] for number in (1, 0))
        assert table.loc["student", name] == pytest.approx(np.mean(own))
        assert table.loc["student", f"{name}_minus_control"] == pytest.approx(np.mean(own) - np.mean(others))
    assert table.loc["student", "flops"] == run.student.summary["flops"] < table.loc["teacher", "flops"]
    assert table.loc["student", "parameters"] == run.student.summary["parameters"]


def test_a_distillation_shows_itself(run):
    assert "test_resnet" in run._repr_html_()
    assert "<table" in run._repr_html_()
    assert run.summary in repr(run)
    assert run.summary.startswith("On 12 test images the student is")
    # After one epoch, on twelve images, no model is significantly better than guessing.
    assert all("No better than the majority class" in note for note in run.notes)


def test_the_same_call_finds_the_same_runs(run, root):
    before = [path.stat().st_mtime_ns for path in sorted((root / "checkpoints").glob("*/summary.json"))]
    assert len(before) == 5
    again = kd.distill(DATA, root=str(root), alpha=np.float64(0.4), seeds=np.int64(2), **SMALL)
    assert again.series == run.series
    assert [path.stat().st_mtime_ns for path in sorted((root / "checkpoints").glob("*/summary.json"))] == before
    more = kd.distill(DATA, root=root, alpha=0.4, **{**SMALL, "teacher": run.teacher})
    assert more.series.pairs == run.series.pairs[:1]


def test_the_three_are_compared_on_an_image_in_any_form(run, tmp_path):
    image = run.data.test.images[0]
    Image.fromarray(image).save(tmp_path / "scan.png")
    one, *others = (run.compare(form) for form in (image, Image.fromarray(image), tmp_path / "scan.png"))
    assert all(np.array_equal(one.image, other.image) for other in others)
    assert {"teacher_grad-cam_layer05", "student_grad-cam_layer02", "image"} <= {*one.maps}
    assert Image.open(io.BytesIO(one._repr_png_())).width > 500
    assert repr(one).startswith("<Comparison of teacher test_resnet, control plain2w4, student plain2w4 by grad-cam")
    assert one.save(str(tmp_path / "figure.png")) == {"figure.png": tmp_path / "figure.png"}
    assert {path.name for path in one.save(tmp_path / "folder").values()} == {"comparison.png", "maps.npz",
                                                                             "comparison.json"}
    other = run.compare(image, target=run.data.classes[1], explainer="layer-cam", stage=0, seed=1)
    assert other.student.explanation.run == run.series.pairs[1][1]
    assert other.student.explanation.maps[0].stage == 0
    with pytest.raises(UsageError, match=r"no student of seed 7: seeds are 0, 1"):
        run.compare(image, seed=7)


def test_a_run_and_a_module_are_explained_alike(run, tmp_path):
    image = run.data.test.images[0]
    theirs = torchvision.models.resnet18(num_classes=3)
    for model, label, size in ((run.student, "plain2w4", SIZE), (theirs, "ResNet", 224)):
        found = kd.explain(model, image, "grad-cam", target=2)
        assert (found.explainer, found.model, found.target) == ("grad-cam", label, 2)
        assert found.image.shape == (size, size, 3)
        assert found.probabilities.sum() == pytest.approx(1)
        assert np.asarray(found).shape == found.heat.shape == found.overlay().shape[:2] == (size, size)
        assert 0 <= found.heat.min() <= found.heat.max() <= 1
        assert Image.open(io.BytesIO(found._repr_png_())).width > 500
        assert found.classes[2] in repr(found)
        assert found.save(tmp_path / "figure.png")["figure.png"].exists()
        paths = found.save(tmp_path / "folder")
        assert np.array_equal(np.load(paths["maps.npz"])[found.maps[0].key], found.maps[0].values)
        assert json.loads(paths["explanation.json"].read_text())["target"] == found.classes[2]


def test_a_run_is_explained_as_the_engine_explains_it(run):
    from kd.inspection.explain import explain

    image = run.data.test.images[0]
    found, expected = kd.explain(run.student, image, stage=None), explain(run.student, image, stage=None)
    assert found.target == expected.predicted
    for one, other in zip(found.maps, expected.maps, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-5, atol=1e-6)
        assert (one.name, one.blank) == (other.name, other.blank)


def test_stages_and_classes_go_by_name():
    torch.manual_seed(0)
    module = kd.wrap(torchvision.models.resnet18(num_classes=2), ["layer2", "layer4"], classes=["no", "yes"], size=64)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert [one.name for one in kd.explain(module, image, "stage-maps", stage=None).maps] == ["layer2", "layer4"]
    assert "layer2 · 8×8" in repr(kd.explain(module, image, stage="layer2", target="yes"))
    assert kd.explain(module, image, "occlusion").maps[0].values.shape == (64, 64)
    for wrong, message in (({"stage": "layer3"}, r"no stage 'layer3'\. This model has layer2, layer4"),
                           ({"stage": 2}, r"no stage 2"), ({"target": "maybe"}, r"Unknown class 'maybe'"),
                           ({"target": 2}, r"no class 2"), ({"explainer": "gradcam"}, r"Did you mean 'grad-cam'"),
                           ({"explainer": "mask"}, r"ResNet has no mask")):
        with pytest.raises(UsageError, match=message):
            kd.explain(module, image, **wrong)
    with pytest.raises(UsageError, match=r"must be a torch module.*not str"):
        kd.explain("resnet18", image)


FORMS = {
    "path": lambda path, pixels: path,
    "text": lambda path, pixels: str(path),
    "PIL": lambda path, pixels: Image.fromarray(pixels),
    "palette": lambda path, pixels: Image.fromarray(pixels).convert("L").convert("P"),
    "CMYK": lambda path, pixels: Image.fromarray(pixels).convert("CMYK"),
    "bytes": lambda path, pixels: pixels,
    "grey": lambda path, pixels: pixels[..., 0],
    "one channel": lambda path, pixels: pixels[..., :1],
    "shares": lambda path, pixels: pixels / 255,
    "tensor": lambda path, pixels: torch.from_numpy(pixels).permute(2, 0, 1) / 255,
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_may_have_any_form(form, tmp_path):
    pixels = np.repeat(np.arange(0, 240, 10, np.uint8).reshape(4, 6, 1), 3, axis=2)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = as_image(FORMS[form](tmp_path / "x.png", pixels), 6)
    assert found.shape == (6, 6, 3)
    assert (found[0] == 0).all() and (found[5] == 0).all()  # fitted with bars
    assert np.abs(found[1:5].astype(int) - pixels).max() <= 1
    original = as_original(FORMS[form](tmp_path / "x.png", pixels.repeat(3, axis=0).repeat(3, axis=1)))
    assert original.shape == ((6, 6, 3) if "path" in form or form == "text" else (18, 18, 3))


def test_figures_show_an_image_at_its_own_resolution(run):
    large = np.repeat(np.repeat(run.data.test.images[0], 3, axis=0), 3, axis=1)
    assert run.compare(large).original.shape == (3 * SIZE, 3 * SIZE, 3)
    found = kd.explain(run.student, large)
    assert (found.original.shape, found.image.shape) == ((3 * SIZE, 3 * SIZE, 3), (SIZE, SIZE, 3))
    assert as_original(np.zeros((700, 9), np.uint8)).shape == (512, 512, 3)


@pytest.mark.parametrize("wrong", [None, 3, np.zeros((2, 3, 4, 5)), np.zeros((0, 3)), np.array(["a"]), "not-there.png",
                                   np.full((3, 3), np.nan)])
def test_what_is_no_image_is_refused(wrong):
    with pytest.raises(UsageError, match=r"[Ii]mage .*\."):
        as_image(wrong, 8)


@pytest.mark.parametrize(("settings", "message"), [
    ({"alhpa": 0.4}, r"Unknown setting .*'alhpa'\. Did you mean 'alpha'"),
    ({"method": "dkd", "alpha": 0.4}, r"Unknown setting of a distillation by 'dkd' 'alpha'"),
    ({"method_args": {"alpha": 0.4}}, r"Unknown setting .*'method_args'"),
    ({"alpha": 2.0}, r"alpha must be between 0 and 1"),
    ({"epochs": 0}, r"epochs must be between 1"),
    ({"method": "dk"}, r"Did you mean 'dkd'"),
    ({"method": "supervised"}, r"learns without a teacher"),
    ({"teacher": "resnet1"}, r"resnet18"),
    ({"student": "timm:nothing"}, r"nothing"),
    ({"student": "truncated", "depth": 12}, r"depth|stages"),
    ({"student": "plain", "student_weights": "hub"}, r"plain network cannot start from 'hub'"),
    ({"student_weights": "/no/such.pth"}, r"/no/such.pth"),
    ({"teacher_weights": "scan.png"}, r"scan.png is not a weights file"),
    ({"method": None}, r"Unknown distillation method None|Unknown method None"),
    ({"student": "timm:inception_v3", "image_size": 32}, r"cannot take (images|pictures) of 32 px"),
    ({"data": "phantom-brian"}, r"Did you mean 'phantom-brain'"),
    ({"data": 5}, r"int is not a data set"),
    ({"data": (np.zeros((9, 8, 8), np.uint8), [0] * 9)}, r"only the class"),
])
def test_errors_come_before_anything_is_trained(settings, message, tmp_path):
    given = {"data": DATA, **SMALL, **settings}
    with pytest.raises(UsageError, match=message):
        kd.distill(given.pop("data"), root=tmp_path, **given)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("make", [
    lambda x, y: (x, y),
    lambda x, y: kd.Arrays(x, y, groups=np.arange(len(y)) // 2, classes=["dark", "light"]),
    lambda x, y: torch.utils.data.TensorDataset(torch.from_numpy(x)[:, None] / 255, torch.from_numpy(y)),
], ids=["pair", "Arrays", "torch"])
def test_arrays_are_distilled(make, tmp_path):
    labels = np.arange(40) // 2 % 2
    shades = np.random.default_rng(0).integers(0, 60, (40, 16, 16)) + 150 * labels[:, None, None]
    run = kd.distill(make(shades.astype(np.uint8), labels), root=tmp_path, method="dkd", **{**SMALL, "epochs": 1})
    assert run.results.loc["student", "seeds"] == 1
    assert run.notes[0] == METHODS["dkd"].info.binary_note
    assert len(run.data.classes) == 2
    again = kd.distill(run.data, root=tmp_path, method="dkd", **{**SMALL, "epochs": 1})  # a data set of ours, too
    assert again.series == run.series


def test_settings_are_listed_and_completed_by_name():
    table = kd.settings("dkd")
    assert {*METHODS["dkd"].info.hyperparameters, "depth", "epochs", "seeds"} <= {*table.index}
    assert table.loc["temperature", "default"] == 4.0
    assert table.loc["method", "default"] == "dkd"
    assert table.loc["epochs", "range"] == "1 to 1000"
    assert (table["meaning"].str.len() > 5).all()
    shown = inspect.signature(kd.distill).parameters
    assert shown["depth"].default == DistillSpec().depth
    assert {"data", "root", "progress", "teacher", "seeds", "method_settings"} <= {*shown}
    assert "method_args" not in shown


def test_a_progress_bar_goes_over_all_epochs(run, capsys):
    bar = ProgressBar(run.series.runs)
    with bar.following(run.student, "student"):
        pass
    assert (bar.bar.n, bar.bar.total) == (10, 10)
    bar.close()
    out, err = capsys.readouterr()
    assert not out
    assert "student" in err and "100%" in err


def test_after_ctrl_c_the_same_call_goes_on_from_the_last_epoch(monkeypatch, tmp_path, run):
    log = Run.log

    def log_and_stop(one: Run, event: str, **values) -> None:
        log(one, event, **values)
        if event == "epoch":
            signal.raise_signal(signal.SIGINT)

    def distil() -> kd.Experiment:
        return kd.distill(DATA, root=tmp_path, alpha=0.4, **SMALL)

    monkeypatch.setattr(Run, "log", log_and_stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        distil()
    assert "goes on from the last finished epoch" in stopped.value.__notes__[0]
    assert [(one.status, len(one.epochs())) for one in Store(Paths(tmp_path)) if one.events()] == [("interrupted", 1)]
    monkeypatch.undo()
    monkeypatch.setenv("KD_LENS_LOCK", str(tmp_path / "worker.lock"))
    again = distil()
    for one, whole in zip(again.series.runs, run.series.runs[:3], strict=True):
        assert [event["epoch"] for event in one.events() if event["event"] == "epoch"] == [0, 1]
        assert one.weights.read_bytes() == whole.weights.read_bytes()  # as if it had never been stopped


LINES = """
import sys
import kd
assert "torch" not in sys.modules
run = kd.distill({data!r}, root={root!r}, alpha=0.4, seeds=2, **{settings!r})
image = run.data.test.images[0]
"""
CELLS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
found = []
for cell in json.loads(sys.argv[1]):
    done = shell.run_cell(cell)
    done.raise_error()
    found.append(shell.display_formatter.format(done.result)[0])
print(json.dumps([{kind: len(content) for kind, content in each.items()} for each in found]))
"""


def test_the_lines_run_in_a_notebook_and_show_themselves_there(root, run, tmp_path):
    lines = LINES.format(data=DATA, root=str(root), settings=SMALL)
    cells = [lines, "run", "run.results", "run.compare(image)", "kd.explain(run.student, image)"]
    done = subprocess.run([sys.executable, "-c", CELLS, json.dumps(cells)], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "IPYTHONDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    _, result, table, comparison, maps = json.loads(done.stdout.splitlines()[-1])
    assert result["text/html"] > table["text/html"] > 500
    assert min(comparison["image/png"], maps["image/png"]) > 10_000
