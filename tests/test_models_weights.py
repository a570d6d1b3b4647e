import hashlib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from kd.errors import UsageError
from kd.models import build, weights
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


WRITTEN = {
    "plain.pth": lambda state: state,
    "nested.pt": lambda state: {"state_dict": state, "epoch": 3},
    "model.bin": lambda state: {"model": state},
    "model_state.pth": lambda state: {"model_state": state, "optimizer": {0: torch.ones(1)}},
    "parallel.pth": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled.pth": lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
    "half.pth": lambda state: {name: value.half() if value.is_floating_point() else value
                               for name, value in state.items()},
    "run.pth": lambda state: {f"net.{name}": value for name, value in state.items()},
    "headless.pth": body,
    "old.pth": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
}


@pytest.mark.parametrize("name", WRITTEN)
def test_weights_are_read_however_they_were_wrapped(name, source, tmp_path):
    written = WRITTEN[name](source)
    torch.save(written, tmp_path / name)
    expected = {key: value.half().float() if value.is_floating_point() else value for key, value in source.items()} \
        if name.startswith("half") else {key: value for key, value in source.items()
                                         if name != "old.pth" or "num_batches" not in key}
    assert starts_from(tmp_path / name, expected)


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


class Danger:
    """Would run code when unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a weights file was run')",))


def test_a_file_that_would_run_code_is_not_read(tmp_path):
    torch.save({"weight": Danger()}, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match="could run code"):
        weights.read(tmp_path / "weights.pth")


@pytest.mark.parametrize(("name", "content", "told"), [
    ("broken.safetensors", b"nothing of the kind", "damaged or is no weights file"),
    ("broken.pth", b"nothing of the kind", "no weights file"), ("empty.pth", b"", "no weights file"),
    ("torn.pth", b"PK\x03\x04 and then nothing", "damaged or is no weights file"),
    ("notes.txt", b"", "not a weights file by its name"), ("missing.pth", None, "There is no weights file")])
def test_what_is_no_weights_file_is_refused_with_a_sentence(name, content, told, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=told):
        build(spec(pretrained=str(tmp_path / name)), classes=3)


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, torch.ones(3), {0: torch.ones(1)}], ids=str)
def test_a_file_without_named_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match="no named tensors"):
        weights.read(tmp_path / "weights.pth")


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
    assert torch.equal(weights.read(tmp_path / "weights.safetensors")["layers.1.1.bias"], model.layers[1][1].weight)


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
    stated = weights.read(mobilenet)
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
    assert torch.equal(student.net.conv_stem.weight, weights.read(mobilenet)["conv_stem.weight"].float())


def test_real_weights_of_another_model_are_refused(mobilenet):
    with pytest.raises(UsageError, match="do not fit resnet18: of 122 tensors 96 missing"):
        build(RunSpec(model="resnet18", pretrained=str(mobilenet)), classes=4)
