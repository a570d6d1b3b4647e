"""Precision of a student and of its teacher's outputs, on processors with and without bfloat16."""

import pytest

from kd.spec import RunSpec
from kd.torch_utils import compute
from kd.training.precision import resolve_precision, teacher_precision

PLAIN = RunSpec(device="cpu")
DEPTHWISE = RunSpec(model="truncated", base="mobilenetv2_100", depth=2, device="cpu")


@pytest.mark.parametrize(("bf16", "spec", "own", "teachers"), [
    (True, PLAIN, "bf16-mixed", "bf16-mixed"), (True, DEPTHWISE, "32-true", "bf16-mixed"),
    (False, PLAIN, "32-true", "32-true"), (False, DEPTHWISE, "32-true", "32-true"),
    (True, RunSpec(device="cpu", precision="32-true"), "32-true", "32-true"),
    (False, RunSpec(device="cpu", precision="bf16-mixed"), "bf16-mixed", "bf16-mixed")])
def test_a_teacher_answers_in_bfloat16_where_the_processor_has_it(monkeypatch, bf16, spec, own, teachers):
    monkeypatch.setattr(compute, "_bf16_in_hardware", lambda: bf16)
    assert resolve_precision(spec) == own
    assert teacher_precision(spec, own) == teachers
