from pathlib import Path

import pytest

from benchmarks import memory
from kd.datasets import open_dataset
from kd.paths import Paths


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("kept", [[], ["--frozen"]])
def test_memory_is_told_moment_by_moment(monkeypatch, capsys, kept):
    monkeypatch.setattr(memory, "HELD_OUT", 16)
    found = memory.main(["--count", "64", "--size", "32", "--epochs", "2", "--batch", "16", *kept])
    assert [moment for moment, _, _ in found] == ["before", "decoded", "epoch 1", "epoch 2", "tested"]
    assert all(now["resident"] == pytest.approx(now["own"] + now["of files"], rel=0.05) for _, now, _ in found)
    said = capsys.readouterr().out
    assert "0 MB of pictures took" in said
    assert ("training on 0 MB of pictures" in said) == (not kept)


def test_growth_is_taken_from_before_the_training():
    rows = [("decoded", {"resident": 500.0}, 0.0), ("epoch 1", {"resident": 1700.0, "own": 300.0}, 0.0),
            ("epoch 2", {"resident": 1700.0, "own": 307.0}, 0.0)]
    flat, grown, _ = memory.verdict(rows, 1229).splitlines()
    assert flat.startswith("reached: own memory grows") and flat.endswith(": 7.")
    assert grown.startswith("MISSED: training on 1229 MB") and grown.endswith(": 1200.")
    rows[2] = ("epoch 2", {"resident": 600.0, "own": 500.0}, 0.0)
    flat, about = memory.verdict(rows, 1229, plain=False).splitlines()
    assert flat.startswith("MISSED: own memory grows") and "took 1200 MB more" in about


def test_a_written_set_can_be_opened(tmp_path):
    memory.write_set(tmp_path / "noise.npz", {"train": 40, "val": 8, "test": 8}, 32)
    data = open_dataset(str(tmp_path / "noise.npz"), 32, Paths(tmp_path))
    assert [len(split) for split in data.splits.values()] == [40, 8, 8]
    assert data.train.images.std() > 50
