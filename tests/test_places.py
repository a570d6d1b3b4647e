from pathlib import Path

from kd.places import PROJECT, Places, default_places


def test_everything_lies_under_one_root(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_LENS_ROOT", str(tmp_path))
    assert default_places() == Places(tmp_path)
    assert default_places().cache.is_relative_to(default_places().data)
    monkeypatch.delenv("KD_LENS_ROOT")
    assert default_places().root == PROJECT
    assert (PROJECT / "kd").samefile(Path(__file__).parents[1] / "kd")
