"""The preset of the distillation form."""

from small import SIZE
from test_pages_distill import form

from kd.experiments.plan import DistillSpec
from kd.experiments.presets import PRESETS
from kd.models import build, weights
from kd.spec import RunSpec


def test_a_preset_fills_in_fields_that_stay_free(tmp_path):
    path = tmp_path / "weights.safetensors"
    weights.save(build(RunSpec(model="test_resnet", image_size=SIZE), 4), path)
    at = form()
    rates = {name: at.number_input(key=f"distil_{name}") for name in ("teacher_learning_rate", "learning_rate")}
    assert {name: (one.value, one.proto.placeholder) for name, one in rates.items()} == {
        "teacher_learning_rate": (None, "0.001"), "learning_rate": (4e-3, "0.002")}
    assert at.selectbox(key="distil_preset").value == "few-random"
    assert at.number_input(key="distil_epochs").value == 1, "chosen before"
    assert {"distil_weight_decay", "distil_schedule"} <= {one.key for one in (*at.number_input, *at.selectbox)}
    assert [name for name in PRESETS if "pretrained" not in name] == [
        name for name in PRESETS if PRESETS[name].title in " ".join(at.selectbox(key="distil_preset").options)]
    at.selectbox(key="distil_teacher_weights").set_value("file").run()
    at.text_input(key="distil_teacher_weights_file").set_value(str(path)).run()
    assert at.number_input(key="distil_teacher_learning_rate").proto.placeholder == "0.0005"
    assert not at.exception, at.exception
    assert at.selectbox(key="distil_preset").value == "few-pretrained"
    assert at.segmented_control(key="distil_student_kind").value == "truncated"
    assert at.selectbox(key="distil_student_weights").value == "teacher"
    assert at.selectbox(key="distil_frozen_stages").value == -1
    assert at.number_input(key="distil_teacher_learning_rate").value == 1e-3
    assert at.number_input(key="distil_batch_size").value == PRESETS["few-pretrained"].pretrained_student["batch_size"]
    assert at.number_input(key="distil_epochs").value == 1
    at.segmented_control(key="distil_student_kind").set_value("plain").run()
    assert at.number_input(key="distil_batch_size").value == PRESETS["few-pretrained"].random_student["batch_size"]
    at.number_input(key="distil_epochs").set_value(2).run()
    at.selectbox(key="distil_preset").set_value("none").run()
    assert at.number_input(key="distil_batch_size").value == DistillSpec().batch_size
    assert at.number_input(key="distil_epochs").value == 2
    at.selectbox(key="distil_teacher_weights").set_value("none").run()
    assert at.selectbox(key="distil_preset").value == "none", "chosen by hand"
    assert at.number_input(key="distil_teacher_learning_rate").value is None
    assert not at.exception, at.exception
    assert not at.error, at.error[0].value
