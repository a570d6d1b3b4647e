import pytest
import torch
from small import spec

from kd.arithmetic import device, precision, precision_of


@pytest.fixture
def processor(monkeypatch):
    """Sets what this machine's processor can do, and that it has no other device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return lambda *known: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(known, True),
                                              raising=False)


@pytest.mark.parametrize(("known", "chosen"), [
    (("avx2", "avx512_f"), "32-true"), (("avx512_bf16",), "bf16-mixed"), (("amx_bf16",), "bf16-mixed"),
    (("neon", "bf16"), "bf16-mixed"), ((), "32-true"),
])
def test_auto_takes_bfloat16_where_the_processor_has_it(processor, known, chosen):
    processor(*known)
    assert precision("auto", "auto") == precision("auto", "cpu") == chosen


def test_a_torch_that_cannot_say_what_the_processor_has_computes_in_float32(processor, monkeypatch):
    processor()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert precision("auto", "cpu") == "32-true"


@pytest.mark.parametrize("wanted", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_choice_of_ones_own_holds_everywhere(processor, wanted):
    processor()
    assert precision(wanted, "cpu") == precision(wanted, "cuda") == precision_of(spec(precision=wanted)) == wanted


def test_depthwise_convolutions_stay_in_float32_on_a_processor(processor):
    processor("avx512_bf16")
    assert precision_of(spec()) == "bf16-mixed"
    assert precision_of(spec(model="mobilenetv3_small_050")) == "32-true"


@pytest.mark.parametrize(("able", "chosen"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_a_gpu_takes_bfloat16_where_it_computes_in_it(processor, monkeypatch, able, chosen):
    processor()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: able)
    assert precision("auto", "cuda:1") == chosen
    assert precision("auto", "mps") == "32-true"


def test_auto_is_the_device_that_is_there(processor, monkeypatch):
    processor()
    assert device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device("auto") == device("cuda:1") == "cuda"
