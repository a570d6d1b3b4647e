from pathlib import Path

from kd import paths
from kd.paths import PROJECT, Places, default_places


def test_everything_lies_under_one_root(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_LENS_ROOT", str(tmp_path))
    assert default_places() == Places(tmp_path)
    assert default_places().cache.is_relative_to(default_places().data)
    monkeypatch.delenv("KD_LENS_ROOT")
    assert default_places().root == PROJECT
    assert (PROJECT / "kd").samefile(Path(__file__).parents[1] / "kd")


def test_installed_without_a_checkout_the_working_directory_is_the_root(monkeypatch, tmp_path):
    (tmp_path / "site-packages").mkdir()
    monkeypatch.delenv("KD_LENS_ROOT")
    monkeypatch.setattr(paths, "PROJECT", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    assert default_places().root == tmp_path.resolve()
