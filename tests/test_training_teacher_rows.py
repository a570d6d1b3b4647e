"""Keys and formats of cached rows, and what a student will take."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_runs import made
from small import DATA, SIZE, small_data, spec

from kd.datasets import phantoms
from kd.methods import METHODS
from kd.models import build_untrained, stage_shapes
from kd.observation import select_output
from kd.spec import RunSpec
from kd.store.files import write_json
from kd.store.row_files import RowFiles, RowFormat
from kd.store.runs import Store
from kd.training import augmentation, precision
from kd.training.image_counts import ImageCounts
from kd.training.teacher import cache, rows
from kd.training.teacher.rows import CacheEstimate, cache_key, estimate, required_rows, row_format

CPU = torch.device("cpu")
TEACHER = spec(model="test_resnet", data_fingerprint=phantoms.fingerprint(DATA))


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def data(store):
    return small_data(store.paths)


@pytest.fixture
def teacher(store, data):
    return made(store, TEACHER, data.classes)


def student(teacher, **changes) -> RunSpec:
    return spec(method="kd", teacher=teacher.id, data_fingerprint=phantoms.fingerprint(DATA), **changes)


def test_whatever_changes_a_row_is_in_its_key(teacher, data):
    def directory(data=data, device=CPU, precision="32-true", **changes):
        return cache.cache_dir(teacher, cache_key(teacher, student(teacher, **changes), data, device, precision))

    first = directory()
    others = {"view": directory(views=0), "strength": directory(augmentation=0.5), "size": directory(image_size=40),
              "precision": directory(precision="bf16-mixed"), "threads": directory(threads=1),
              "device": directory(device=torch.device("meta")),
              "pictures": directory(data=replace(data, fingerprint="other")),
              "flip": directory(data=replace(data, info=replace(data.info, flip=not data.info.flip)))}
    for module in (cache, augmentation, rows.image_cache):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "VERSION", 99)
            others[module.__name__] = directory()
    content = bytearray(teacher.weights.read_bytes())
    content[-1] ^= 1
    teacher.weights.write_bytes(content)
    others["weights"] = directory()
    assert len({first, *others.values()}) == len(others) + 1, others


def test_what_changes_no_row_is_not(teacher, data):
    keys = {cache.cache_dir(teacher, cache_key(teacher, student(teacher, **changes), data, CPU, "32-true"))
            for changes in ({}, {"views": 9}, {"seed": 3}, {"epochs": 9}, {"depth": 3}, {"batch_size": 4},
                            {"data_fraction": 0.5})}
    assert len(keys) == 1
    plain = {cache.cache_dir(teacher, cache_key(teacher, student(teacher, views=0, augmentation=strength), data, CPU,
                                                 "32-true")) for strength in (0.0, 1.0)}
    assert len(plain) == 1


def test_rows_have_the_shapes_of_the_outputs(teacher):
    stages = stage_shapes(teacher.spec, 4)
    with torch.no_grad():
        seen = build_untrained(teacher.spec, 4).eval()(torch.zeros(2, 3, SIZE, SIZE), cams=True)
    for name in ("logits", "cams", *(f"{kind}:{number}" for kind in ("attention", "stage")
                                     for number in range(len(stages)))):
        shape = tuple(select_output(seen, name).shape[1:])
        row = row_format(name, stages, 4)
        assert row == (RowFormat((*shape[1:], shape[0]), "float16") if name.startswith("stage") else RowFormat(shape))


@pytest.mark.parametrize(("epochs", "count", "views_needed"), [(2, 5, 2), (5, 5, 5), (7, 5, 5), (3, 0, 1)])
def test_a_run_needs_every_view_that_its_epochs_show_once(epochs, count, views_needed):
    subset = np.array([1, 4, 7])
    found = np.concatenate(list(required_rows([(subset, epochs)], count, 10)))
    assert len(found) == len(set(found)) == 3 * views_needed
    shown = {(int(image), int(view)) for epoch in range(epochs) for image, view in zip(
        subset, augmentation.view_number(epoch, subset, count) if count else np.zeros(3, int), strict=True)}
    assert shown == {(int(row) % 10, int(row) // 10) for row in found}


def test_passes_and_disk_are_estimated(store, teacher, data, monkeypatch):
    def images(**changes):
        return ImageCounts.of(student(teacher, **changes), 42)

    about = student(teacher), TEACHER, 4, images(), store
    first = estimate(*about)
    assert first.passes == 2 * 42
    assert first.size >= 84 * (16 + 4)
    half = student(teacher, data_fraction=0.5)
    assert estimate(half, TEACHER, 4, images(data_fraction=0.5), store).passes == 42
    assert estimate(student(teacher, views=0, epochs=9), *about[1:]).passes == 42
    assert estimate(TEACHER, *about[1:]) == CacheEstimate(0, 0)
    key = cache_key(teacher, about[0], data, CPU, precision.resolve_precision(about[0]))
    count = key["images"]
    directory = cache.cache_dir(teacher, key)
    files = RowFiles(directory, {"logits": RowFormat((4,))}, write=True)
    write_json(directory / "meta.json", key)
    first_view = next(required_rows([(np.arange(count), 2)], about[0].views, count))
    files.write(first_view, {"logits": np.ones((count, 4), np.float32)})
    assert estimate(*about).passes == 42
    assert 0 < estimate(*about).size <= first.size
    assert estimate(student(teacher, epochs=1), *about[1:]) == CacheEstimate(0, 0)
    assert estimate(student(teacher, augmentation=0.9), *about[1:]).passes == 84
    monkeypatch.setenv("KD_LENS_TEACHER_CACHE_GB", "0.000001")
    assert estimate(*about) == CacheEstimate(42, 0)
    monkeypatch.setenv("KD_LENS_TEACHER_CACHE_GB", "0")
    assert estimate(*about) == CacheEstimate(84, 0)


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].needs_teacher])
def test_every_method_can_be_estimated_and_draws_no_random_number(store, teacher, method):
    state = torch.get_rng_state()
    found = estimate(replace(student(teacher), method=method), TEACHER, 4, ImageCounts.of(TEACHER, 42), store)
    assert found.passes == 84
    assert torch.equal(torch.get_rng_state(), state)
