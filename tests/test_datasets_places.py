"""Folders that hold no data set, and the bounds on listing others."""

import os
from pathlib import Path

import pytest
from made_sets import make_folder

from kd.datasets import inspect, resolve
from kd.datasets.image_folder import folder
from kd.datasets.importing.preview import ImportOptions
from kd.datasets.importing.understand import understand
from kd.datasets.limits import Limits
from kd.datasets.places import require_place
from kd.errors import UsageError
from kd.paths import Paths


@pytest.mark.parametrize("path", ["/", "/proc", "/proc/self", "/sys", "/dev", "/proc/../", "/sys/kernel"])
def test_system_folders_and_whole_drives_are_refused_in_a_sentence(path, tmp_path):
    for ask in (resolve, inspect, lambda one, paths: understand(one, ImportOptions(), paths)):
        with pytest.raises(UsageError, match="not a data set. Give the folder of the images"):
            ask(path, Paths(tmp_path))


def test_a_link_to_them_is_refused_too(tmp_path):
    (tmp_path / "inside").symlink_to("/proc")
    with pytest.raises(UsageError, match="operating system"):
        require_place(tmp_path / "inside")
    require_place(tmp_path)
    if os.path.ismount("/dev/shm"):
        require_place(Path("/dev/shm"))


def test_links_in_a_set_lose_nothing_but_themselves(tmp_path):
    path = make_folder(tmp_path / "set", {"train/a": 3, "train/b": 3})
    before = folder.scan(path).images
    first = Path(before[0]).parent
    (path / first / "loop").symlink_to(path / first / "loop")
    (path / first / "a.png").symlink_to(path / first / "a.png")
    (path / first / "t.csv").symlink_to(path / first / "t.csv")
    (path / first / "proc").symlink_to("/proc")
    (path / first / "up").symlink_to(path)
    found = folder.scan(path)
    assert set(before) <= set(found.images)
    assert not [name for name in found.images if name not in before]
    assert "the link leads into the system's own folders" in [one.reason for one in found.refused]


@pytest.mark.parametrize(("limits", "words"), [
    (Limits(entries=5), "more than 5 files"), (Limits(depth=0), "more than 0 deep"),
    (Limits(seconds=-1.0), "more files than can be listed in -1 seconds")])
def test_listing_is_bounded(tmp_path, monkeypatch, limits, words):
    path = make_folder(tmp_path / "set", {"train/a": 3, "train/b": 3})
    monkeypatch.setattr(folder, "LIMITS", limits)
    with pytest.raises(UsageError, match=f"holds .*{words}"):
        folder.scan(path)
