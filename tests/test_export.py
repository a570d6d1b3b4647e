import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from lanes import slow
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
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.runs import Store
from kd.timing import Timing


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(Paths(tmp_path_factory.mktemp("export")))


@pytest.fixture(scope="module")
def run(store):
    """A finished plain student."""
    return trained(store, epochs=1)


@pytest.fixture(scope="module")
def exported(store, run):
    """Its ONNX export, with the 8-bit form."""
    return export(store, run, int8=True)


def test_an_export_computes_what_torch_does_for_every_batch(exported):
    assert [one.batch for one in exported.checked] == list(BATCHES)
    assert max(one.greatest for one in exported.checked) < 1e-5
    assert exported.outputs == (LOGITS, "stage_1", "stage_2", CLASS_MAPS)
    assert exported.bytes == (exported.folder / exported.file).stat().st_size


def test_the_file_alone_says_what_it_is(exported, run):
    found = onnx_file.details(exported.folder / "model.onnx")
    assert found["classes"] == run.summary["classes"]
    assert found["use"] == "not for clinical use"
    assert found["stages"]["stage_2"]["grid"] == [8, 8]
    # Two 3×3 convolutions of stride 2 with padding 1 are centred on every fourth pixel, from the first on.
    assert found["stages"]["stage_2"]["cells"]["first"] == pytest.approx([0.5 / 32] * 2)
    assert found["stages"]["stage_2"]["cells"]["step"] == pytest.approx([4 / 32] * 2)
    assert report.load(exported.folder)["int8"]["same_class"] == exported.int8["same_class"]


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


def test_the_8_bit_form_is_smaller_and_its_maps_are_compared(exported):
    found = exported.int8
    assert (exported.folder / report.INT8).stat().st_size == found["int8"]["bytes"]
    assert found["maps"]["images"] > 0
    assert -1 <= found["maps"]["low"] <= found["maps"]["mean"] <= 1
    assert found["maps"]["worst"][0][1] <= found["maps"]["low"]


@pytest.mark.parametrize("format", ["torch", "safetensors"])
def test_other_formats(store, run, format):
    found = export(store, run, format)
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
    found = deviations(made, onnx_file.session(tmp_path / "model.onnx"), images)
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
    whole = onnx_file.session
    monkeypatch.setattr(onnx_file, "write", lambda made, size, details, path: shutil.copy(
        exported.folder / "model.onnx", path))
    monkeypatch.setattr(onnx_file, "session", lambda path: lambda images: {
        name: value + 1 for name, value in whole(path)(images).items()})
    with pytest.raises(UsageError, match="not what torch computes"):
        export(store, run, folder=str(tmp_path))
    assert not (tmp_path / "model.onnx").exists()


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


def test_agreement_is_of_the_predicted_class_and_names_the_worst():
    maps = np.zeros((3, 2, 2, 2), np.float32)
    maps[:, 1] = [[0, 1], [2, 3]]
    turned = maps.copy()
    turned[1, 1] = maps[1, 1, ::-1, ::-1]
    found = int8.agreement(maps, turned, np.array([1, 1, 0]), ("a", "b", "c"))
    assert found.images == 2  # the third is constant
    assert found.mean == pytest.approx(0)
    assert found.worst == (("b", pytest.approx(-1)), ("a", pytest.approx(1)))
    assert int8.agreement(maps[:, :1], turned[:, :1], np.array([0, 0, 0]), ("a", "b", "c")) is None


def test_a_report_is_plain_values():
    arm = int8.Arm(0.5, 3, Timing(1.0, 1.0, 1.0, 1, 0))
    assert json.loads(json.dumps(int8.Int8Report(arm, arm, 1.0, None).to_json()))["maps"] is None


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
