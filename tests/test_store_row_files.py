"""Rows on disk: whatever happens to the files, what is read is what was written, or is not there."""

import os
import signal
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kd.store.row_files import PAGE, RowFiles, RowFormat, on_disk

FORM = {"logits": RowFormat((4,)), "stage:1": RowFormat((2, 3, 5), "float16")}


def rows(index, form=FORM):
    """What stands in these rows, made from their numbers."""
    return {name: np.stack([np.random.default_rng(number).random(row.shape).astype(row.dtype) for number in index])
            for name, row in form.items()}


def at(*numbers):
    return np.array(numbers, np.int64)


@pytest.fixture
def filled(tmp_path):
    files = RowFiles(tmp_path / "files", FORM, write=True)
    files.write(at(3, 0, 17), rows((3, 0, 17)))
    return files


def check(files, index, sound):
    found, there = files.read(at(*index))
    assert there.tolist() == sound
    for name, values in rows(index).items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name][there], values[there])


def test_rows_come_back_as_they_were_and_others_are_not_there(filled, tmp_path):
    check(filled, (17, 0, 5, 3, 99), [True, True, False, True, False])
    check(RowFiles(tmp_path / "files", FORM), (3, 16), [True, False])


def test_reading_makes_nothing_on_disk(tmp_path):
    check(RowFiles(tmp_path / "none", FORM), (0, 1), [False, False])
    check(RowFiles(None, FORM), (0,), [False])
    assert not (tmp_path / "none").exists()


def test_a_row_must_be_there_in_every_column(filled, tmp_path):
    only = {"logits": FORM["logits"]}
    RowFiles(tmp_path / "files", only, write=True).write(at(5), rows((5,), only))
    check(filled, (5, 3), [False, True])


@pytest.mark.parametrize("column", ["logits", "stage-1"])
def test_a_flipped_bit_costs_its_row(filled, tmp_path, column):
    with (tmp_path / "files" / f"{column}.rows").open("r+b") as file:
        file.seek(3 * FORM[column.replace("-", ":")].bytes + 5)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    check(filled, (0, 3, 17), [True, False, True])
    filled.write(at(3), rows((3,)))
    check(filled, (0, 3, 17), [True, True, True])


@pytest.mark.parametrize("end", [".rows", ".crc32"])
def test_a_file_cut_short_costs_what_is_cut(filled, tmp_path, end):
    os.truncate(tmp_path / "files" / f"logits{end}", 17 * (16 if end == ".rows" else 4) + 3)
    check(filled, (0, 3, 17), [True, True, False])
    assert filled.count([at(0, 3, 17)])[:2] == (2, 1)


def test_a_row_whose_sum_is_nought_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(zlib, "crc32", lambda content: 0)
    files = RowFiles(tmp_path, FORM, write=True)
    files.write(at(2), rows((2,)))
    check(files, (2, 1), [True, False])


def test_rows_of_another_form_are_refused(filled):
    with pytest.raises(ValueError, match="not RowFormat"):
        filled.write(at(1), {**rows((1,)), "logits": np.zeros((1, 5), np.float32)})


def test_a_full_disk_is_an_error_and_leaves_no_row(filled, monkeypatch):
    real, left = os.pwrite, [3]

    def pwrite(file, content, offset):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(file, content[:7], offset)  # a nearly full disk takes a part

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="No space left"):
        filled.write(at(1, 2), rows((1, 2)))
    check(filled, (0, 1, 2, 3), [True, False, False, True])
    left[0] = 10**6
    filled.write(at(1), rows((1,)))
    check(filled, (0, 1, 2, 3), [True, True, False, True])


def test_required_rows_are_counted_and_its_bytes_are_enough(tmp_path):
    form = {"stage:0": RowFormat((32, 50)), "logits": RowFormat((4,))}
    files = RowFiles(tmp_path, form, write=True)
    some, more = np.arange(0, 4000, 40), np.arange(1, 4000, 25)
    kept, missing, cost = files.count([some, more])
    assert (kept, missing) == (0, len(some) + len(more))
    for index in (some, more):
        files.write(index, rows(index, form))
    taken = sum(on_disk(path.stat()) for path in tmp_path.iterdir())
    assert missing * 6400 < taken <= cost
    assert files.count([some, more, at(2)])[:2] == (missing, 1)


def test_holes_take_no_disk(tmp_path):
    RowFiles(tmp_path, FORM, write=True).write(at(10**6), rows((10**6,)))
    assert (tmp_path / "logits.rows").stat().st_size > 10**7
    assert on_disk((tmp_path / "logits.rows").stat()) <= 16 * PAGE


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_store_row_files import FORM, RowFiles, at, rows
files = RowFiles(Path(sys.argv[1]), FORM, write=True)
print("ready", flush=True)
for number in range(int(sys.argv[3]), 10**9 * int(sys.argv[4]), int(sys.argv[4])):
    files.write(at(number % 500), rows((number % 500,)))
"""


def test_two_processes_fill_the_same_files_and_one_is_killed(tmp_path):
    tests = os.path.dirname(__file__)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), tests, str(start), str(step)],
                                stdout=subprocess.PIPE, cwd=os.path.dirname(tests))
               for start, step in ((0, 1), (499, -1))]
    files, everything = RowFiles(tmp_path, FORM, write=True), np.arange(500)
    try:
        for writer in writers:
            writer.stdout.readline()
        expected = rows(everything)
        for turn in range(60):
            found, there = files.read(everything)
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name][there], values[there])
            if turn == 20:
                writers[0].send_signal(signal.SIGKILL)
        assert there.any()
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    files.write(everything, expected)
    check(files, range(500), [True] * 500)


def test_threads_of_one_process_share_files(tmp_path):
    def fill(number):
        files = RowFiles(tmp_path, FORM, write=True)
        order = np.random.default_rng(number).permutation(60)
        files.write(order, rows(order))
        return files.read(np.arange(60))[1].all()

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(fill, range(8)))
    check(RowFiles(tmp_path, FORM), range(60), [True] * 60)
