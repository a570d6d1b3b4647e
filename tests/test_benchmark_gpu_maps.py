"""The comparison itself, where every machine can run it."""

from small import trained

from benchmarks import gpu_maps
from kd.inspection.cam_check import COUNTERPARTS
from kd.paths import Paths
from kd.store.runs import Store


def test_every_map_is_the_packages_and_the_processors(tmp_path, capsys):
    run = trained(Store(Paths(tmp_path)), epochs=1)
    found = gpu_maps.main([run.id, "--device", "cpu", "--root", str(tmp_path)])
    assert [one.explainer for one in found] == list(COUNTERPARTS)
    assert all(one.passed for one in found)
    assert "MISSED" not in capsys.readouterr().out
