"""One decoded data set on disk."""

import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE

from kd.datasets.base import Sample, Skipped
from kd.datasets.decoded_files import open_decoded, unused, write_manifest, writing

SIZE = 8


def write(folder: Path, count: int = 3) -> Path:
    """Image i is filled with i, and all are trained on."""
    folder.mkdir()
    with writing(folder, SIZE, has_evidence=True) as writer:
        for number in range(count):
            writer.add(Sample(str(number), 0, "train", np.full((SIZE, SIZE, 3), number % 256, np.uint8)))
        writer.add(Skipped("bad", "broken"))
    write_manifest(folder, writer.manifest("/set", "f", has_evidence=True, has_groups=False))
    return folder


def free(folder: Path) -> bool:
    with unused(folder) as found:
        return found


def test_arrays_are_npy_files_that_numpy_reads_by_itself(tmp_path: Path) -> None:
    folder = write(tmp_path / "set")
    images = np.load(folder / "train.images.npy")
    assert (images.shape, images.dtype) == ((3, SIZE, SIZE, 3), np.uint8)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert np.load(folder / "train.evidence.npy").shape == (3, SIZE, SIZE)
    assert np.load(folder / "val.images.npy").shape == (0, SIZE, SIZE, 3)


@pytest.mark.parametrize("count", [1, 9, 10, 99, 1000])
def test_the_head_holds_whatever_number_of_rows(count: int, tmp_path: Path) -> None:
    found = open_decoded(write(tmp_path / "set", count), SIZE)
    assert found is not None
    assert found.splits["train"].images[-1, 0, 0, 0] == (count - 1) % 256
    assert found.manifest["skipped"] == [["bad", "broken"]]


def test_a_row_of_another_shape_or_type_is_a_defect(tmp_path: Path) -> None:
    for wrong in (np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE, 3), np.float32)):
        with pytest.raises(ValueError, match="must be uint8"), writing(tmp_path, SIZE, has_evidence=False) as writer:
            writer.add(Sample("a", 0, "train", wrong))


@pytest.mark.parametrize("damage", ["shape", "type", "tail"])
def test_arrays_that_are_not_what_the_manifest_says_are_not_opened(damage: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "set")
    images = np.load(folder / "train.images.npy")
    if damage == "tail":
        with (folder / "train.images.npy").open("ab") as file:
            file.write(b"x")
    else:
        np.save(folder / "train.images.npy", images[1:] if damage == "shape" else images.astype(np.int8))
    assert open_decoded(folder, SIZE) is None
    assert free(folder)


def test_it_is_in_use_as_long_as_one_of_its_arrays_lives(tmp_path: Path) -> None:
    folder = write(tmp_path / "set")
    assert free(folder)
    one, other = open_decoded(folder, SIZE), open_decoded(folder, SIZE)
    assert one is not None and other is not None
    part = one.splits["train"].images[1:]
    assert not free(folder)
    del one, other
    assert not free(folder)
    del part
    assert free(folder)


def test_it_cannot_be_opened_while_it_is_removed(tmp_path: Path) -> None:
    folder = write(tmp_path / "set")
    with unused(folder):
        assert open_decoded(folder, SIZE) is None
    assert open_decoded(folder, SIZE) is not None


def hold(folder: Path, opened: Event, leave: Event) -> None:
    """In a process of its own: have the set open until told to leave."""
    found = open_decoded(folder, SIZE)
    opened.set()
    leave.wait(PATIENCE)
    assert found is not None


def test_another_process_holds_it_until_it_ends_even_by_a_kill(tmp_path: Path) -> None:
    folder, context = write(tmp_path / "set"), multiprocessing.get_context("spawn")
    opened, leave = context.Event(), context.Event()
    child = context.Process(target=hold, args=(folder, opened, leave))
    child.start()
    assert opened.wait(PATIENCE)
    assert not free(folder)
    child.kill()
    child.join(PATIENCE)
    assert free(folder)
