import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import timm
import torch
from lanes import slow
from made_eight_bit import copied, quantised
from PIL import Image
from safetensors.torch import load_file
from small import DATA, small_data, trained

from kd.datasets.tensors import read_images, to_tensor
from kd.errors import Stopped, UsageError
from kd.evaluation import predict
from kd.export import int8, onnx_file, report
from kd.export.check import BATCHES, Deviation, check_images, deviations, require_equal
from kd.export.program import CLASS_MAPS, LOGITS, MASK, grids, program
from kd.export.run import export
from kd.models import build
from kd.models.onnx_session import OnnxSession
from kd.spec import RunSpec


@pytest.fixture(scope="module")
def store():
    return quantised()[0]


@pytest.fixture(scope="module")
def run():
    """A finished plain student, exported with its 8-bit form."""
    return quantised()[1].student


@pytest.fixture(scope="module")
def exported(run):
    """What is known of that export."""
    found = report.load(report.folder_of(run, "onnx"))
    return SimpleNamespace(**{**found, "folder": Path(found["folder"])})


def test_an_export_computes_what_torch_does_for_every_batch(exported):
    assert [one["batch"] for one in exported.checked] == list(BATCHES)
    assert max(one["greatest"] for one in exported.checked) < 1e-5
    assert exported.checked_on == "test images"
    assert exported.outputs == [LOGITS, "stage_1", "stage_2", CLASS_MAPS]
    assert exported.bytes == (exported.folder / exported.file).stat().st_size


def test_the_file_alone_says_what_it_is(exported, run):
    found = onnx_file.details(exported.folder / "model.onnx")
    assert found["classes"] == run.summary["classes"]
    assert found["use"] == "not for clinical use"
    assert found["stages"]["stage_2"]["grid"] == [8, 8]
    # Two 3×3 convolutions of stride 2 with padding 1 are centred on every fourth pixel, from the first on.
    assert found["stages"]["stage_2"]["cells"]["first"] == pytest.approx([0.5 / 32] * 2)
    assert found["stages"]["stage_2"]["cells"]["step"] == pytest.approx([4 / 32] * 2)


def test_the_example_runs_without_the_program_and_says_the_same(exported, store, run, tmp_path):
    data = small_data(store.paths)
    Image.fromarray(np.asarray(data.test.images[3])).save(tmp_path / "image.png")
    said = subprocess.run([sys.executable, "-I", exported.folder / "example.py", "image.png"], cwd=tmp_path, text=True,
                          capture_output=True, check=True, timeout=120).stdout
    chances = eval(said)  # a dict that our own example printed
    model = predict.load(run, 4)
    with torch.no_grad():
        expected = model(to_tensor(read_images(data.test.images, np.array([3])), "cpu")).logits.softmax(1)[0]
    assert list(chances) == list(data.classes)
    assert list(chances.values()) == pytest.approx(expected.tolist(), abs=2e-3)


def test_the_card_has_the_scores_and_the_warning(exported, run):
    card = (exported.folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert "Not for clinical use" in card
    assert f"{100 * run.evaluation['accuracy']:.1f} %" in card
    assert "8-bit form" in card


@pytest.mark.parametrize("format", ["torch", "safetensors"])
def test_other_formats_need_no_data_set(tmp_path, format, monkeypatch):
    store, trio = copied(tmp_path)
    run = trio.student
    monkeypatch.setattr(predict, "data_of", lambda *_: pytest.fail("the data set was opened"))
    found = export(store, run, format)
    assert found.checked_on == ("images of noise" if format == "torch" else "")
    assert (found.folder / found.file).exists()
    assert [one.greatest < 1e-5 for one in found.checked] == [True] * (3 if format == "torch" else 0)
    subprocess.run([sys.executable, "-c", "import ast; ast.parse(open('example.py').read())"], cwd=found.folder,
                   check=True, timeout=60)


def test_a_timm_networks_weights_load_as_the_example_does_it(store):
    run = trained(store, model="test_resnet", epochs=1)
    found = export(store, run, "safetensors")
    net = timm.create_model("test_resnet", num_classes=4)
    net.load_state_dict(load_file(found.folder / found.file))
    assert 'timm.create_model("test_resnet", num_classes=4)' in (found.folder / "example.py").read_text()


MODELS = {
    "truncated": RunSpec(model="truncated", base="test_resnet", depth=2, image_size=64, input_size=48),
    "timm": RunSpec(model="test_efficientnet", image_size=64), "last": RunSpec(model="test_mambaout", image_size=64),
    "masked": RunSpec(depth=2, width=4, image_size=32, mask_net_depth=1, mask_net_width=4, mask_area=0.2),
    "blur": RunSpec(depth=2, width=4, image_size=64, mask_net_depth=2, mask_net_width=4, mask_area=0.2,
                    mask_fill="blur")}


@pytest.mark.parametrize("name", ["masked", *slow(*(name for name in MODELS if name != "masked"))])
def test_every_kind_of_model_exports_with_a_free_batch(name, tmp_path):
    spec = MODELS[name]
    made = program(build(spec, classes=3))
    assert (MASK in made.outputs) == (name in ("masked", "blur"))
    onnx_file.write(made, spec.image_size, {}, tmp_path / "model.onnx")
    images = np.random.default_rng(0).random((5, 3, spec.image_size, spec.image_size), np.float32)
    found = deviations(made, OnnxSession(tmp_path / "model.onnx"), images)
    assert max(one.greatest for one in found) < 1e-4


def test_a_model_without_a_pooled_linear_head_has_no_class_maps():
    assert program(build(RunSpec(model="test_convnext", image_size=64), classes=3)).outputs[-1] == "stage_4"


def test_grids_are_those_of_the_stages():
    model = build(RunSpec(model="test_resnet", image_size=64), classes=3).eval()
    found = grids(model, 64)
    assert [one["grid"] for one in found.values()] == [[32, 32], [16, 16], [8, 8], [4, 4], [2, 2]]
    assert [one["channels"] for one in found.values()] == [stage.channels for stage in model.stages]


def test_a_file_that_computes_something_else_is_refused_and_removed(store, run, exported, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"class_maps differs by 10 % .* for a batch of 2"):
        require_equal([Deviation(1, 0.0, LOGITS), Deviation(2, 0.1, CLASS_MAPS)])
    require_equal([Deviation(1, 1e-5, LOGITS)])
    monkeypatch.setattr(onnx_file, "write", lambda made, size, details, path: shutil.copy(
        exported.folder / "model.onnx", path))
    monkeypatch.setattr("kd.export.run.OnnxSession", lambda path: lambda images: {
        name: value + 1 for name, value in OnnxSession(path)(images).items()})
    with pytest.raises(UsageError, match="not what torch computes"):
        export(store, run, folder=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused_with_a_sentence(store, run):
    with pytest.raises(UsageError, match=r"Unknown format 'pickle'.*onnx"):
        export(store, run, "pickle")
    with pytest.raises(UsageError, match="The 8-bit form is an ONNX file"):
        export(store, run, "torch", int8=True)
    with pytest.raises(UsageError, match="is planned, not finished"):
        export(store, store.create(RunSpec(data=DATA, image_size=32, depth=1, seed=5)))
    with pytest.raises(UsageError, match="no export in"):
        report.load(run.path / "nowhere")


def test_a_cancelled_export_has_no_report(store, run, tmp_path):
    with pytest.raises(Stopped):
        export(store, run, "safetensors", folder=str(tmp_path), should_stop=lambda: True)
    assert not (tmp_path / report.REPORT).exists()


def test_images_are_repeated_where_there_are_too_few(store):
    data = small_data(store.paths)
    found = check_images(data.test, len(data.test) + 1)
    assert np.array_equal(found[0], found[-1])


def test_what_is_not_finite_is_not_what_torch_computes(run, store):
    made, images = program(predict.load(run, 4)), check_images(small_data(store.paths).test, 1)
    broken = {name: np.full_like(value, np.nan) for name, value in zip(made.outputs, made(torch.from_numpy(images)),
                                                                    strict=True)}
    found = deviations(made, lambda _: broken, images, [1])
    assert found[0].greatest == np.inf
    with pytest.raises(UsageError, match="not what torch computes"):
        require_equal(found)


def test_a_folder_that_cannot_take_the_export_is_refused_before_anything_is_written(store, run, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / ("x" * 300), tmp_path / "zero\0byte"):
        with pytest.raises(UsageError, match=r"cannot be written to .* Choose another folder"):
            export(store, run, "safetensors", folder=str(folder))
    (tmp_path / "README.md").write_text("my notes")
    with pytest.raises(UsageError, match=r"has its own README.md, which the export would replace"):
        export(store, run, "safetensors", folder=str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "file"]


def test_an_export_replaces_another_with_its_8_bit_form(store, run, tmp_path):
    export(store, run, "safetensors", folder=str(tmp_path))
    (tmp_path / report.INT8).write_text("of another run")
    found = export(store, run, "safetensors", folder=str(tmp_path))
    assert report.load(tmp_path)["int8"] is found.int8 is None
    assert not (tmp_path / report.INT8).exists()


def test_an_export_that_is_cancelled_or_fails_leaves_the_earlier_one(store, run, tmp_path, monkeypatch):
    export(store, run, "safetensors", folder=str(tmp_path))
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}

    def broken(*_):
        raise OSError("the disk is full")

    asked = iter([False, True])
    with pytest.raises(Stopped):
        export(store, run, "safetensors", folder=str(tmp_path), should_stop=lambda: next(asked))
    monkeypatch.setattr("kd.export.run._describe", broken)
    with pytest.raises(OSError, match="full"):
        export(store, run, "safetensors", folder=str(tmp_path))
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before


def test_scaling_and_downsampling_stay_in_float32(tmp_path):
    made = program(build(RunSpec(depth=1, width=4, image_size=64, input_size=32), classes=3))
    onnx_file.write(made, 64, {}, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    kinds = {node.name: node.op_type for node in model.graph.node}
    found = [kinds[name] for name in int8.before_convolutions(model)]
    assert found.count("MatMul") == 2  # rows and columns
    assert not {"Conv", "Gemm"} & {*found}
