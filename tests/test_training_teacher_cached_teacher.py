"""Teacher outputs, cached or computed, are the same."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from lanes import slow
from lightning_fabric import Fabric
from made_runs import made
from safetensors.torch import load
from small import small_data, spec, trained

from kd.errors import Stopped, UsageError
from kd.inference.choice import VARIABLE
from kd.methods import METHODS
from kd.models import weights
from kd.models.base import Classifier
from kd.spec import RunSpec
from kd.store.row_claims import RowClaims
from kd.store.row_files import folder_size
from kd.store.runs import Store
from kd.training.batches import TrainBatches
from kd.training.loop import train
from kd.training.teacher import cache
from kd.training.teacher.cached_teacher import CachedTeacher, find_teacher
from kd.training.teacher.rows import build_method, chunk_size

CHUNK = chunk_size("cpu")
WITH_TEACHER = [name for name in METHODS if METHODS[name].needs_teacher]
STUDENT = {"epochs": 2, "views": 2, "depth": 3}


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def data(store):
    return small_data(store.paths)


@pytest.fixture
def teacher(store, data):
    return made(store, spec(model="test_resnet"), data.classes)


def student(teacher, **changes) -> RunSpec:
    return spec(**{"method": "kd", "teacher": teacher.id, **STUDENT, **changes})


def cached(store, teacher, data, enable=True, log=lambda *_, **__: None, **changes) -> CachedTeacher:
    about = student(teacher, **changes)
    method = build_method(about, teacher.spec, len(data.classes))
    fabric = Fabric(accelerator="cpu", devices=1, precision=changes.get("precision", "32-true"))
    found = CachedTeacher(teacher, about, data, method, fabric, log)
    if enable:
        found.enable_cache(store, store.create(about), [(np.arange(len(data.train)), about.epochs)])
    return found


def batches(data, size=8, seed=0, count=2):
    return TrainBatches(data.train, np.arange(len(data.train)), size, seed, count, data.info.flip, 0.25)


def outputs(one: CachedTeacher, of: TrainBatches, epochs=2) -> dict[tuple[int, int], dict[str, torch.Tensor]]:
    """Every image's teacher outputs, by epoch and image; the batches come in their order."""
    found = {}
    for epoch in range(epochs):
        plain = list(of.epoch(epoch, torch.device("cpu")))
        for number, (batch, parts) in enumerate(one.batches(of, epoch)):
            assert torch.equal(batch.images, plain[number].images)
            assert set(parts) == set(one.formats)
            assert all(part.dtype == torch.float32 and not part.requires_grad for part in parts.values())
            found |= {(epoch, int(image)): {name: part[place] for name, part in parts.items()}
                      for place, image in enumerate(batch.numbers)}
        assert number + 1 == len(of)
    return found


def same(one, other, tolerance=1e-3) -> bool:
    """To rounding: an image may stand in another row of its chunk, and rows may round differently."""
    pairs = [(part, other[key][name]) for key in one if key in other for name, part in one[key].items()]
    return all(torch.allclose(*pair, tolerance, tolerance) and pair[0].stride() == pair[1].stride() for pair in pairs)


@pytest.fixture
def passes(monkeypatch):
    """How many pictures each forward pass of a timm model gets."""
    counted = []
    real = Classifier.forward

    def forward(self, images, *args, **kwargs):
        if hasattr(self, "net") and images.device.type != "meta":
            counted.append(len(images))
        return real(self, images, *args, **kwargs)

    monkeypatch.setattr(Classifier, "forward", forward)
    return counted


def content(run) -> bytes:
    return run.weights.read_bytes()


def test_a_teacher_that_has_not_finished_cannot_teach():
    store = Store()
    teacher = store.create(spec(seed=5))
    with pytest.raises(UsageError, match="not finished"):
        find_teacher(spec(method="kd", teacher=teacher.id), store, ("a", "b"))
    with pytest.raises(UsageError, match="needs a teacher"):
        find_teacher(spec(method="kd"), store, ("a", "b"))


@pytest.mark.parametrize(("method", "precision"), [
    *((name, "32-true") for name in WITH_TEACHER), ("kd", "bf16-mixed"), ("fitnet", "bf16-mixed"),
    *slow(*((name, "bf16-mixed") for name in WITH_TEACHER if name not in ("kd", "fitnet")))])
def test_outputs_cached_in_other_batches_are_those_computed_now(store, teacher, data, passes, method, precision):
    about, tolerance = {"method": method, "precision": precision}, 1e-3 if precision == "32-true" else 0.05
    live = outputs(cached(store, teacher, data, enable=False, **about), batches(data, 8))
    other = cached(store, teacher, data, **about)
    assert same(live, outputs(other, batches(data, 13, seed=3)), tolerance)
    assert other.computed == 2 * len(data.train)
    passes.clear()
    kept = cached(store, teacher, data, **about)
    again = outputs(kept, batches(data, 8))
    assert same(live, again, tolerance)
    assert live.keys() == again.keys()
    assert passes == []
    assert (kept.cache.misses, kept.computed, kept._model) == (0, 0, None)


@pytest.mark.parametrize("size", [1, 5, 20, 32, 40])
def test_the_teacher_sees_full_chunks_whatever_the_batch(store, teacher, data, passes, size):
    live = outputs(cached(store, teacher, data, enable=False), batches(data, 8), 1)
    passes.clear()
    assert same(live, outputs(cached(store, teacher, data, enable=False), batches(data, size), 1))
    assert set(passes) == {CHUNK}
    # 44 images: two chunks of 32, unless a batch is so large that some are left out.
    assert len(passes) == -(-len(batches(data, size)) * size // CHUNK)


def test_only_what_is_missing_or_damaged_is_computed_again(store, teacher, data):
    first = cached(store, teacher, data)
    live = outputs(first, batches(data))
    with (first.cache.directory / "logits.rows").open("r+b") as file:
        file.seek(3 * 16)
        file.write(b"damaged!")
    os.truncate(first.cache.directory / "logits.crc32", 4 * 80)
    again = cached(store, teacher, data)
    assert again.cache.misses == 8
    assert same(live, outputs(again, batches(data)))
    assert again.computed == 8 + 1
    assert cached(store, teacher, data).cache.misses == 0


def test_outputs_of_changed_weights_are_never_mixed(store, teacher, data):
    first = cached(store, teacher, data)
    before = outputs(first, batches(data), 1)
    waiting = cached(store, teacher, data, epochs=3, views=3)
    model = cached(store, teacher, data, enable=False).model
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    weights.save(model, teacher.weights)
    after = cached(store, teacher, data)
    assert after.cache.hits == 0
    assert not same(before, outputs(after, batches(data), 1))
    with pytest.raises(UsageError, match="changed while a student was learning"):
        outputs(waiting, batches(data, count=3), 3)


def test_half_precision_of_stages_is_a_rounding_and_stays_finite(store, teacher, data):
    one = cached(store, teacher, data, enable=False, method="fitnet", precision="32-true")
    batch, found = next(one.batches(batches(data), 0))
    [(name, features)] = found.items()
    with torch.no_grad():
        exact = one.model(batch.images).stages[int(name.split(":")[1])]
    torch.testing.assert_close(features, exact, rtol=1e-3, atol=1e-4)
    assert features.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter.mul_(1e3)
    _, found = next(one.batches(batches(data), 0))
    assert all(part.isfinite().all() for part in found.values())


def test_an_epoch_that_is_not_finished_changes_no_output(store, teacher, data):
    live = outputs(cached(store, teacher, data, enable=False), batches(data))
    one = cached(store, teacher, data)
    next(one.batches(batches(data), 0))
    assert one.computed == CHUNK
    assert same(live, outputs(one, batches(data)))
    assert one.computed == 2 * len(data.train)


def full_after(monkeypatch, writes):
    real, left = os.pwrite, [writes]

    def pwrite(*args):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    monkeypatch.setattr(os, "pwrite", pwrite)


def test_a_full_disk_is_logged_once_and_the_cache_removed(store, teacher, data, monkeypatch):
    live = outputs(cached(store, teacher, data, enable=False), batches(data))
    words = []
    full_after(monkeypatch, 50)
    one = cached(store, teacher, data, log=lambda name, **values: words.append((name, values)))
    assert same(live, outputs(one, batches(data)))
    words = [(name, values) for name, values in words if name == "teacher_cache"]
    assert len(words) == 2
    assert words[0][1]["disabled"] == ""
    assert words[-1][1]["disabled"] == "the disk refuses to store them (No space left on device)"
    assert words[-1][1]["bytes"] == 0
    assert not one.cache.directory.exists()


def test_a_full_disk_takes_nothing_from_another_student(store, teacher, data, monkeypatch):
    outputs(cached(store, teacher, data), batches(data), 1)
    full_after(monkeypatch, 0)
    with store.create(student(teacher, seed=7)).lock():
        one = cached(store, teacher, data)
        outputs(one, batches(data))
    assert one.cache.disabled
    assert one.computed == len(data.train) - len(data.train) % 8
    assert one.cache.directory.exists()


def test_a_directory_that_cannot_be_made_is_reported(store, teacher, data):
    (teacher.path / cache.DIRECTORY).write_text("in the way")
    one = cached(store, teacher, data)
    assert one.cache.disabled
    assert "the disk refuses" in one.cache.disabled
    assert len(outputs(one, batches(data), 1)) == 40


def test_beyond_the_quota_nothing_is_written_and_hits_are_read(store, teacher, data, monkeypatch):
    outputs(cached(store, teacher, data, epochs=1), batches(data), 1)
    monkeypatch.setenv("KD_LENS_TEACHER_CACHE_GB", "0.000002")
    one = cached(store, teacher, data)
    assert (one.cache.hits, one.cache.misses) == (44, 44)
    assert "KD_LENS_TEACHER_CACHE_GB" in one.cache.disabled
    before = folder_size(one.cache.directory)
    outputs(one, batches(data))
    assert one.computed == 40
    assert folder_size(one.cache.directory) == before


def test_the_quota_holds_while_rows_are_written(store, teacher, data, monkeypatch):
    monkeypatch.setattr(cache, "CHECK_EVERY", 100)
    one = cached(store, teacher, data)
    monkeypatch.setenv("KD_LENS_TEACHER_CACHE_GB", "0.000001")
    outputs(one, batches(data))
    assert one.cache.disabled.startswith("no room is left")
    assert cache.find(teacher) is not None
    assert cached(store, teacher, data).cache.hits == CHUNK


class ThreadClaims(RowClaims):
    """Claims of threads: the real ones are of processes."""

    owners, lock = {}, threading.Lock()

    def take(self, index, most):
        with self.lock:
            free = [place for place, row in enumerate(index.tolist()) if self.owners.get(row, self) is self][:most]
            return [place for place in free if not self.owners.update({int(index[place]): self})]

    def release(self, index):
        with self.lock:
            for row in index.tolist():
                self.owners.pop(row, None)


def test_students_fill_one_cache_at_once_and_compute_each_row_once(store, teacher, data, monkeypatch):
    live = outputs(cached(store, teacher, data, enable=False), batches(data))
    monkeypatch.setattr(cache, "RowClaims", ThreadClaims)
    students = [cached(store, teacher, data, seed=seed) for seed in (0, 1, 2)]

    def learn(seed, one):
        torch.set_num_threads(1)
        return outputs(one, batches(data, seed=seed))

    with ThreadPoolExecutor(3) as threads:
        assert all(same(live, found) for found in threads.map(learn, (0, 0, 1), students))
    assert sum(one.computed for one in students) == 2 * len(data.train)
    assert ThreadClaims.owners == {}
    assert cached(store, teacher, data).cache.misses == 0


@pytest.fixture
def uncached(store, teacher, monkeypatch):
    """Weights of a student that was trained without a cache."""
    def weights_of(**changes):
        with monkeypatch.context() as patch:
            patch.setenv("KD_LENS_TEACHER_CACHE_GB", "0")
            run = trained(store, **{"method": "kd", "teacher": teacher.id, **STUDENT, **changes})
        assert run.last_event("teacher_cache")["disabled"] == "KD_LENS_TEACHER_CACHE_GB is 0"
        assert not (teacher.path / cache.DIRECTORY).exists() or cache.find(teacher) is not None
        found = content(run)
        store.delete(run.id)
        return found

    return weights_of


@pytest.mark.parametrize(("method", "precision", "engine"), [
    ("kd", "32-true", "torch"), ("fitnet", "bf16-mixed", "openvino"),
    *slow(("kd", "32-true", "openvino"), ("fitnet", "bf16-mixed", "torch"))])
def test_a_student_has_the_same_weights_with_and_without_a_cache(store, teacher, uncached, passes, method, precision,
                                                                 engine, monkeypatch):
    monkeypatch.setenv(VARIABLE, engine)
    about = {"method": method, "teacher": teacher.id, "precision": precision, **STUDENT}
    first, second = uncached(**about), uncached(**about, seed=1)
    filling = trained(store, **about)
    assert content(filling) == first, "its own outputs, from chunks that are the same"
    usage = [event for event in filling.events() if event["event"] == "teacher_cache"]
    assert [(event["hits"], event["disabled"]) for event in usage] == [(0, "")] * 2
    assert usage[0]["bytes"] < usage[1]["bytes"] == cache.cache_bytes(teacher)
    passes.clear()
    read = trained(store, **about, seed=1)
    ours, theirs = load(content(read)), load(second)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():  # outputs from chunks of another order, whose rows may be rounded differently
        torch.testing.assert_close(ours[name], value, rtol=1e-2, atol=1e-3)
    assert passes == []
    assert read.last_event("teacher_cache")["misses"] == 0


def test_a_full_disk_and_a_kill_change_no_weight(store, teacher, uncached, monkeypatch):
    whole = uncached()
    run = store.create(student(teacher))
    count = iter(range(100))
    with pytest.raises(Stopped):
        train(run, store, lambda: next(count) >= 7)
    with monkeypatch.context() as patch:
        full_after(patch, 20)
        train(run, store)
    assert content(run) == whole
    assert run.last_event("teacher_cache")["disabled"]


def test_an_interrupted_student_goes_on_with_its_engine(store, teacher, uncached, monkeypatch):
    monkeypatch.setenv(VARIABLE, "openvino")
    whole = uncached()
    run = store.create(student(teacher))
    count = iter(range(100))
    with pytest.raises(Stopped):
        train(run, store, lambda: next(count) >= 7)
    monkeypatch.setenv(VARIABLE, "torch")
    train(run, store)
    assert content(run) == whole
    first, second = [event for event in run.events() if event.get("part") == "teacher_cache"]
    assert first["engine"] == second["engine"] == "openvino"


def test_outputs_of_one_engine_are_not_read_by_another(store, teacher, data, monkeypatch):
    torchs = cached(store, teacher, data)
    outputs(torchs, batches(data), 1)
    monkeypatch.setenv(VARIABLE, "openvino")
    one = cached(store, teacher, data, seed=1)
    assert one.cache.hits == 0
    assert one.cache.directory != torchs.cache.directory
    assert one.key["engine"].startswith("openvino ")
    assert "engine" not in torchs.key
    assert same(outputs(torchs, batches(data), 1), outputs(one, batches(data), 1))


def test_a_network_that_cannot_be_converted_has_torchs_outputs(store, teacher, data, monkeypatch):
    monkeypatch.setenv(VARIABLE, "openvino")
    monkeypatch.setattr("kd.inference.choice.OpenVinoEngine", lambda *_: 1 / 0)
    said = []
    one = cached(store, teacher, data, log=lambda event, **values: said.append(values) if event == "engine" else None)
    assert "engine" not in one.key
    assert [values["engine"] for values in said] == ["torch"]
    assert "ZeroDivisionError" in said[0]["reason"]
    assert one.cache.directory == cached(store, teacher, data, enable=False).cache.directory
