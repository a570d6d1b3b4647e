from pathlib import Path

from kd import paths
from kd.paths import PROJECT, Paths, default_paths


def test_everything_lies_under_one_root(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_LENS_ROOT", str(tmp_path))
    assert default_paths() == Paths(tmp_path)
    assert default_paths().cache.is_relative_to(default_paths().data)
    monkeypatch.delenv("KD_LENS_ROOT")
    assert default_paths().root == PROJECT
    assert (PROJECT / "kd").samefile(Path(__file__).parents[1] / "kd")


def test_installed_without_a_checkout_the_working_directory_is_the_root(monkeypatch, tmp_path):
    (tmp_path / "site-packages").mkdir()
    monkeypatch.delenv("KD_LENS_ROOT")
    monkeypatch.setattr(paths, "PROJECT", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    assert default_paths().root == tmp_path.resolve()
