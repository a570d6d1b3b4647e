from small import DATA, small_data

from benchmarks.exports import HEADER, row
from kd.export.program import program
from kd.models import build
from kd.paths import Paths
from kd.spec import RunSpec


def test_a_row_holds_deviation_sizes_and_times(tmp_path):
    data = small_data(Paths(tmp_path))
    cells = dict(zip(HEADER[2:], row(program(build(RunSpec(data=DATA, image_size=32, depth=1, width=4), 4)), data),
                     strict=True))
    assert cells["outputs"] == "3"  # logits, one stage, class maps
    assert 0 < float(cells["greatest deviation"]) < 1e-5
    assert all(float(cells[name]) > 0 for name in ("ms, torch", "onnxruntime", "8 bits"))
