"""Folders of images without classes: at any depth, decoded once, and never taken for a set with classes."""

import shutil

import numpy as np
import pytest
from PIL import Image

from kd.datasets import cache, inspect, open_dataset
from kd.datasets.unlabelled import inspect_unlabelled, open_unlabelled
from kd.errors import UsageError
from kd.paths import Paths, default_paths


def write(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (40, 40), shade).save(path)


@pytest.fixture
def folder(tmp_path):
    """Four grey images at several depths, a mask, and a text."""
    root = tmp_path / "ward"
    for number, name in enumerate(("a.png", "deep/b.png", "deep/deeper/c.png", "other/d.png")):
        write(root / name, 40 * number)
    write(root / "deep_masks" / "b.png", 255)
    (root / "notes.txt").write_text("no image")
    return root


def test_images_at_any_depth_are_found_and_masks_are_not(folder):
    about = inspect_unlabelled(str(folder), default_paths())
    assert (about.reference, about.images, about.classes) == (str(folder), 4, ())
    split = open_unlabelled(str(folder), about.fingerprint, 32, default_paths())
    assert split.names == ("a.png", "deep/b.png", "deep/deeper/c.png", "other/d.png")
    assert np.asarray(split.images)[:, 16, 16, 0].tolist() == [0, 40, 80, 120]
    assert split.groups is None


def test_a_zip_holds_the_same_images(folder, tmp_path):
    file = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    about = inspect_unlabelled(file, default_paths())
    split = open_unlabelled(file, about.fingerprint, 32, default_paths())
    assert np.asarray(split.images)[:, 16, 16, 0].tolist() == [0, 40, 80, 120]


def test_patients_are_known_where_they_are_listed(folder):
    (folder / "groups.csv").write_text("file,group\na.png,p1\ndeep/b.png,p2\n")
    split = open_unlabelled(str(folder), "", 32, default_paths())
    assert split.groups == ("p1", "p2", "only deep/deeper/c.png", "only other/d.png")


def test_the_same_folder_with_classes_is_another_set(tmp_path):
    """Either is decoded by itself, and neither takes the other's place in the cache."""
    root, paths = tmp_path / "set", default_paths()
    for name in ("sick", "well"):
        for number in range(6):
            write(root / name / f"{number}.png", 10 * number)
    about, bare = inspect(str(root), paths), inspect_unlabelled(str(root), paths)
    assert about.fingerprint != bare.fingerprint
    assert about.images == bare.images == 12
    assert len(open_unlabelled(str(root), bare.fingerprint, 32, paths)) == 12
    assert sum(len(split) for split in open_dataset(str(root), 32, paths).splits.values()) == 12
    cache.remove_stale_builds(paths)
    assert {one.fingerprint for one in cache.cached_sets(paths)} == {about.fingerprint, bare.fingerprint}


def test_a_changed_folder_is_refused(folder):
    about = inspect_unlabelled(str(folder), default_paths())
    write(folder / "e.png", 7)
    with pytest.raises(UsageError, match="have changed since this run was planned"):
        open_unlabelled(str(folder), about.fingerprint, 32, default_paths())


def test_a_folder_of_a_moved_store_is_found_by_its_name_and_content(folder, tmp_path):
    about, after = inspect_unlabelled(str(folder), default_paths()), Paths(tmp_path / "after")
    after.data.mkdir(parents=True)
    folder.rename(after.data / "ward")
    assert len(open_unlabelled(str(folder), about.fingerprint, 32, after)) == 4
    with pytest.raises(UsageError, match="There are no unlabelled images at"):
        inspect_unlabelled(str(folder), after)


def test_what_is_no_folder_or_empty_is_refused(tmp_path):
    with pytest.raises(UsageError, match="There are no unlabelled images at 'nowhere'"):
        inspect_unlabelled("nowhere", default_paths())
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match="bare holds no image"):
        inspect_unlabelled(str(tmp_path / "bare"), default_paths())
