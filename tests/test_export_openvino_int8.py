
import numpy as np
import pytest
from made_eight_bit import quantised
from small import small_data

from kd.export import onnx_file, openvino_int8, report
from kd.export.check import check_images, deviations
from kd.export.int8 import outputs
from kd.export.program import LOGITS, program
from kd.export.run import export
from kd.models import build
from kd.models.onnx_session import OnnxSession
from kd.spec import RunSpec


@pytest.fixture(scope="module")
def folder():
    """Of the export of a finished plain student, with its 8-bit forms."""
    return report.folder_of(quantised()[1].student, "onnx")


def test_its_figures_are_those_of_its_files(folder):
    found, data = report.load(folder)["int8"]["openvino"], small_data(quantised()[0].paths)
    answers = outputs(openvino_int8.OpenVinoSession(folder / report.OPENVINO[0], 1), data.test)[LOGITS].argmax(1)
    assert found["accuracy"] == pytest.approx((answers == data.test.labels).mean())
    assert found["bytes"] == sum((folder / name).stat().st_size for name in report.OPENVINO)
    assert 0 <= found["same_class"] <= 1
    assert -1 <= found["maps"]["low"] <= found["maps"]["mean"] <= 1


def test_it_is_near_float32_and_not_equal(folder):
    images = check_images(small_data(quantised()[0].paths).test, 5)
    one = OnnxSession(folder / "model.onnx")(images)
    other = openvino_int8.OpenVinoSession(folder / report.OPENVINO[0])(images)
    assert one.keys() == other.keys()
    for name, values in one.items():
        apart = np.abs(values - other[name]).max() / np.abs(values).max()
        assert 0 < apart < 0.2, name


def test_without_nncf_there_is_the_other_form_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(openvino_int8, "available", lambda: False)
    store, trio = quantised()
    found = export(store, trio.student, int8=True, folder=str(tmp_path))
    assert found.int8["openvino"] is None
    assert not [name for name in report.OPENVINO if (tmp_path / name).exists()]


def test_a_smaller_input_is_read_as_torch_computes_it(tmp_path):
    made = program(build(RunSpec(depth=1, width=4, image_size=64, input_size=32), classes=3))
    onnx_file.write(made, 64, {}, tmp_path / "model.onnx")
    images = np.random.default_rng(0).random((5, 3, 64, 64), np.float32)
    for session in (OnnxSession(tmp_path / "model.onnx"), openvino_int8.OpenVinoSession(tmp_path / "model.onnx")):
        assert max(one.greatest for one in deviations(made, session, images)) < 1e-5


def test_what_openvino_reads_wrongly_is_not_quantised(monkeypatch, tmp_path):
    right = openvino_int8.OpenVinoSession.__call__
    monkeypatch.setattr(openvino_int8.OpenVinoSession, "__call__", lambda self, images, wanted=(): {
        name: value + 1 for name, value in right(self, images, wanted).items()})
    store, trio = quantised()
    found = export(store, trio.student, int8=True, folder=str(tmp_path))
    assert "does not compute in float32 what torch does" in found.int8["openvino"]["reason"]
    assert report.by_openvino(found.int8) is None
    assert not (tmp_path / report.OPENVINO[0]).exists()
