import hashlib
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from kd.errors import UsageError
from kd.models import build, weights
from kd.models.weights_files import read
from kd.spec import RunSpec

NAME = "test_resnet"


def spec(**changes) -> RunSpec:
    return RunSpec(**{"model": NAME, "image_size": 64, **changes})


@pytest.fixture(scope="module")
def source() -> dict[str, torch.Tensor]:
    """timm's names, 7 classes."""
    state = build(spec(seed=4), classes=7).state_dict()
    return {name.removeprefix("net."): value for name, value in state.items()}


def body(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def starts_from(file: Path, source: dict[str, torch.Tensor]) -> bool:
    """Whether a model of 3 classes took over all but the classifier."""
    own = build(spec(pretrained=str(file)), classes=3).state_dict()
    assert own["net.fc.weight"].shape[0] == 3
    taken = {name: own[f"net.{name}"] for name in body(source)}
    return all(torch.equal(value, source[name].to(value.dtype)) for name, value in taken.items())


def test_safetensors_are_read(source, tmp_path):
    save_file(source, tmp_path / "weights.safetensors")
    assert starts_from(tmp_path / "weights.safetensors", source)


def test_a_classifier_of_the_same_shape_is_kept(source, tmp_path):
    torch.save(source, tmp_path / "weights.pth")
    own = build(spec(pretrained=str(tmp_path / "weights.pth")), classes=7).state_dict()
    assert torch.equal(own["net.fc.weight"], source["fc.weight"])


def test_plain_starts_from_a_plain_run(tmp_path):
    file = tmp_path / "weights.safetensors"
    first = build(RunSpec(depth=2, image_size=32, seed=1), classes=3)
    weights.save(first, file)
    second = build(RunSpec(depth=2, image_size=32, seed=2, pretrained=str(file)), classes=4)
    assert torch.equal(first.layers[1][0].weight, second.layers[1][0].weight)
    with pytest.raises(UsageError, match="do not fit plain of depth 3"):
        build(RunSpec(depth=3, image_size=32, pretrained=str(file)), classes=4)


def test_another_models_weights_are_refused_with_counts_and_keys(source, tmp_path):
    changed = {**source, "extra.weight": torch.ones(1), "conv1.0.weight": torch.ones(2, 2)}
    del changed["layer1.0.conv1.weight"]
    torch.save(changed, tmp_path / "weights.pth")
    with pytest.raises(UsageError) as caught:
        build(spec(pretrained=str(tmp_path / "weights.pth")), classes=3)
    told = str(caught.value)
    assert f"do not fit {NAME}" in told
    assert "1 missing (layer1.0.conv1.weight)" in told
    assert "1 unexpected (extra.weight)" in told
    assert "1 of another shape (conv1.0.weight)" in told


def test_what_a_run_saves_it_loads(tmp_path):
    file = tmp_path / "run" / "weights.safetensors"
    model = build(spec(seed=1), classes=3)
    weights.save(model, file)
    again = build(spec(seed=2), classes=3)
    weights.load(again, file)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    before = file.read_bytes()
    weights.save(again, file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_plain_timm_loads_what_a_run_saves(tmp_path):
    model = build(spec(seed=1), classes=3)
    weights.save(model, tmp_path / "weights.safetensors")
    net = timm.create_model(NAME, num_classes=3)
    net.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(net.eval()(model.prepare(images)), model.eval()(images).logits, atol=1e-5)


def test_a_file_of_the_first_versions_loads(tmp_path):
    model = build(spec(seed=1), classes=3)
    save_file({name: value.clone() for name, value in model.state_dict().items()}, tmp_path / "weights.safetensors")
    again = build(spec(seed=2), classes=3)
    weights.load(again, tmp_path / "weights.safetensors")
    assert torch.equal(again.net.fc.weight, model.net.fc.weight)


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "weights.safetensors"
    weights.save(build(RunSpec(depth=1, image_size=32), classes=2), file)
    before = file.read_bytes()

    def full(state, path):
        Path(path).write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        weights.save(build(RunSpec(depth=1, image_size=32, seed=1), classes=2), file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_layers_that_share_a_tensor_are_saved(tmp_path):
    model = build(RunSpec(depth=2, image_size=32), classes=2)
    model.layers[1][1].bias = model.layers[1][1].weight
    weights.save(model, tmp_path / "weights.safetensors")
    assert torch.equal(read(tmp_path / "weights.safetensors").tensors["layers.1.1.bias"], model.layers[1][1].weight)


def test_a_run_of_another_model_does_not_load(tmp_path):
    file = tmp_path / "weights.safetensors"
    weights.save(build(spec(), classes=3), file)
    with pytest.raises(UsageError, match="of another shape"):
        weights.load(build(spec(), classes=4), file)


def test_the_fingerprint_is_of_the_content(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"abc")
    assert weights.fingerprint(file) == hashlib.sha256(b"abc").hexdigest()[:16]
    for bad in (tmp_path / "missing.pth", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            weights.fingerprint(bad)


@pytest.fixture
def mobilenet(shared) -> Path:
    file = shared / "weights" / "mobilenetv2_100_in1k_from_tflite_fp16.pth"
    if not file.exists():
        pytest.skip(f"no trained weights: {file} is not there")
    return file


def test_real_weights_fill_everything_but_the_classifier(mobilenet):
    stated = read(mobilenet).tensors
    own = build(RunSpec(model="mobilenetv2_100", pretrained=str(mobilenet)), classes=4).state_dict()
    assert len(stated) == len(own)
    kept = [name for name, value in stated.items() if not name.startswith("classifier.")
            and torch.equal(own[f"net.{name}"], value.to(own[f"net.{name}"].dtype))]
    assert len(kept) == len(own) - 2
    assert {value.dtype for value in own.values()} == {torch.float32, torch.int64}


def test_real_weights_know_what_they_see(mobilenet):
    """A portrait in uniform that comes with matplotlib: class 652, a military uniform, is among the first five."""
    cbook = pytest.importorskip("matplotlib.cbook")
    with warnings.catch_warnings(), cbook.get_sample_data("grace_hopper.jpg") as file:
        warnings.simplefilter("ignore")
        picture = np.array(Image.open(file).convert("RGB").resize((224, 224)))
    model = build(RunSpec(model="mobilenetv2_100", pretrained=str(mobilenet), normalisation="half", image_size=224),
                  classes=1000).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255).logits
    assert 652 in logits[0].topk(5).indices


def test_real_weights_of_a_base_start_a_truncated_student(mobilenet):
    student = build(RunSpec(model="truncated", base="mobilenetv2_100", depth=2, pretrained=str(mobilenet)), classes=4)
    assert torch.equal(student.net.conv_stem.weight, read(mobilenet).tensors["conv_stem.weight"].float())


def test_real_weights_of_another_model_are_refused(mobilenet):
    with pytest.raises(UsageError, match="do not fit resnet18: of 122 tensors 96 missing"):
        build(RunSpec(model="resnet18", pretrained=str(mobilenet)), classes=4)
