from benchmarks import infer
from kd.inference.choice import VARIABLE


def test_every_way_is_divided_by_the_autocast(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "openvino")
    rows = infer.main(["test_resnet", "--size", "32", "--batch", "4", "--rounds", "1"])
    assert [row.way.split(":")[0] for row in rows] == [
        "torch, 32-true", "torch, bf16-mixed", "chosen for 32-true", "chosen for bf16-mixed"]
    assert rows[0].error == 0
    assert rows[2].error < 1e-4 < rows[1].error
    assert "OpenVINO" in rows[2].way
    assert all(row.speed > 0 and row.agreement >= 0.5 for row in rows)
    assert "test_resnet at least 2.5 × the autocast" in capsys.readouterr().out
