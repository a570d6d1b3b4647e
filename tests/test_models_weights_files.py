import argparse
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kd.errors import UsageError
from kd.models.weights_files import SUFFIXES, WeightsFile, read, require_finite

STATE = {"body.weight": torch.arange(6.0).view(2, 3), "body.bias": torch.ones(2), "head.weight": torch.zeros(4, 2)}
AVERAGE = {name: value + 1 for name, value in STATE.items()}


class Settings:
    """A class that a training script saves beside the weights."""

    def __init__(self) -> None:
        self.rate = 0.1


class Danger:
    """Would run code when unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a weights file was run')",))


BESIDE = {
    "bare": STATE, "ordered": OrderedDict(STATE), "state_dict": {"state_dict": STATE, "epoch": 3},
    "model": {"model": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}, "param_groups": []}},
    "net": {"net": STATE, "acc": 91.2}, "weights": {"weights": STATE},
    "deep": {"checkpoint": {"model": {"net": STATE}}},
    "timm": {"state_dict": STATE, "args": argparse.Namespace(model="resnet18"), "metric": 70.0},
    "numpy": {"model_state_dict": STATE, "best": np.float64(0.9), "history": {"val": np.arange(5.0)}},
    "lightning": {"state_dict": STATE, "pytorch-lightning_version": "2.2.0", "hyper_parameters": Settings()},
    "loss": {"state_dict": STATE, "best_loss": torch.tensor(0.3)}, "danger": {"state_dict": STATE, "hook": Danger()},
}


@pytest.mark.parametrize("name", BESIDE)
def test_the_weights_of_a_checkpoint_are_found_and_nothing_else_is_loaded(name, tmp_path):
    torch.save(BESIDE[name], tmp_path / "weights.pth")
    found = read(tmp_path / "weights.pth")
    assert set(found.tensors) == set(STATE)
    assert all(torch.equal(found.tensors[one], value) for one, value in STATE.items())
    assert found.notes == ()


@pytest.mark.parametrize("ending", SUFFIXES)
def test_endings_in_capitals_too(ending, tmp_path):
    for file in (tmp_path / f"weights{ending}", tmp_path / f"WEIGHTS{ending.upper()}"):
        save_file(STATE, file) if "safe" in ending else torch.save(STATE, file)
        assert set(read(file).tensors) == set(STATE)


@pytest.mark.parametrize(("content", "said"), [
    ({"state_dict": STATE, "state_dict_ema": AVERAGE}, "the average was taken (state_dict_ema)"),
    ({"model": STATE, "model_ema": AVERAGE}, "the average was taken (model_ema)"),
    ({"state_dict_ema": AVERAGE}, "Its weights are a moving average (state_dict_ema)")])
def test_a_moving_average_is_taken_and_said(content, said, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    found = read(tmp_path / "weights.pth")
    assert torch.equal(found.tensors["body.bias"], AVERAGE["body.bias"])
    assert len(found.notes) == 1
    assert said in found.notes[0]


def test_a_saved_model_and_code_alone_are_refused_and_not_run(tmp_path):
    for name, content in (("model", nn.Linear(2, 2)), ("inside", {"model": nn.Linear(2, 2)}), ("code", Danger())):
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(UsageError, match=r"could run code.*save model.state_dict"):
            read(tmp_path / f"{name}.pth")


def test_a_torchscript_program_is_called_so(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "program.pt")
    with pytest.raises(UsageError, match="is a TorchScript program, not a file of weights"):
        read(tmp_path / "program.pt")


@pytest.mark.parametrize(("name", "content", "said"), [
    ("broken.safetensors", b"nothing of the kind", "damaged or is no weights file"),
    ("broken.pth", b"nothing of the kind", "no weights file"), ("empty.pth", b"", "no weights file"),
    ("torn.pth", b"PK\x03\x04 and then nothing", "damaged or is no weights file"),
    ("notes.txt", b"", "not a weights file by its name"), ("missing.pth", None, "There is no weights file")])
def test_what_is_no_weights_file_is_refused_with_a_sentence(name, content, said, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read(tmp_path / name)


def test_a_file_cut_anywhere_is_refused_with_a_sentence(tmp_path):
    torch.save({"state_dict": STATE}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for end in range(1, len(whole), 97):
        (tmp_path / "cut.pth").write_bytes(whole[:end])
        with pytest.raises(UsageError, match="weights"):
            read(tmp_path / "cut.pth")


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, torch.ones(3), {0: torch.ones(1)}], ids=str)
def test_a_file_without_named_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match="no named tensors"):
        read(tmp_path / "weights.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(value, tmp_path):
    good = WeightsFile(tmp_path, {**STATE, "count": torch.tensor(3)})
    require_finite(good)
    bad = WeightsFile(tmp_path, {**STATE, "tail.bias": torch.tensor([0.0, value], dtype=torch.bfloat16)})
    with pytest.raises(UsageError, match=r"tail.bias has NaN or infinite values.*earlier checkpoint"):
        require_finite(bad)


@pytest.mark.parametrize(("change", "kind"), [
    (lambda value: value.to("meta"), "without values"), (lambda value: value.to_sparse(), "sparse"),
    (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "quantised"),
    (lambda value: value.to(torch.float8_e4m3fn), "quantised")])
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_tensors_without_plain_values_are_refused(change, kind, tmp_path):
    name = "body.weight." + 1000 * "x"
    with pytest.raises(UsageError, match=f"body.weight.x*… is {kind}.*save the state_dict") as caught:
        require_finite(WeightsFile(tmp_path / "w.pth", {name: change(torch.ones(2, 2))}))
    assert len(str(caught.value)) < 500
