"""What decides a row of a lesson, and what a student will ask for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_runs import made
from small import DATA, SIZE, spec

from kd import lesson_rows, lessons, views
from kd.datasets import open_dataset, phantoms
from kd.lesson_rows import Ask, facts_of, foretell, needed, row_of
from kd.methods import METHODS
from kd.models import shapes, skeleton
from kd.observation import aspect
from kd.runs import Store
from kd.shelf import Row, Shelf
from kd.spec import RunSpec
from kd.store.files import write_json

CPU = torch.device("cpu")
TEACHER = spec(model="test_resnet", data_fingerprint=phantoms.fingerprint(DATA))


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def data(store):
    return open_dataset(DATA, SIZE, store.places)


@pytest.fixture
def teacher(store, data):
    return made(store, TEACHER, data.classes)


def student(teacher, **changes) -> RunSpec:
    return spec(method="kd", teacher=teacher.id, data_fingerprint=phantoms.fingerprint(DATA), **changes)


def test_whatever_changes_a_row_is_in_its_key(teacher, data):
    def folder(data=data, device=CPU, precision="32-true", **changes):
        return lessons.folder_of(teacher, facts_of(teacher, student(teacher, **changes), data, device, precision))

    first = folder()
    others = {"view": folder(views=0), "strength": folder(augmentation=0.5), "size": folder(image_size=40),
              "precision": folder(precision="bf16-mixed"), "threads": folder(threads=1),
              "device": folder(device=torch.device("meta")),
              "pictures": folder(data=replace(data, fingerprint="other")),
              "flip": folder(data=replace(data, info=replace(data.info, flip=not data.info.flip)))}
    for module in (lessons, views, lesson_rows.cache):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "VERSION", 99)
            others[module.__name__] = folder()
    content = bytearray(teacher.weights.read_bytes())
    content[-1] ^= 1
    teacher.weights.write_bytes(content)
    others["weights"] = folder()
    assert len({first, *others.values()}) == len(others) + 1, others


def test_what_changes_no_row_is_not(teacher, data):
    keys = {lessons.folder_of(teacher, facts_of(teacher, student(teacher, **changes), data, CPU, "32-true"))
            for changes in ({}, {"views": 9}, {"seed": 3}, {"epochs": 9}, {"depth": 3}, {"batch_size": 4},
                            {"data_fraction": 0.5})}
    assert len(keys) == 1
    plain = {lessons.folder_of(teacher, facts_of(teacher, student(teacher, views=0, augmentation=strength), data, CPU,
                                                 "32-true")) for strength in (0.0, 1.0)}
    assert len(plain) == 1


def test_rows_have_the_shapes_of_the_aspects(teacher):
    stages = shapes(teacher.spec, 4)
    with torch.no_grad():
        seen = skeleton(teacher.spec, 4).eval()(torch.zeros(2, 3, SIZE, SIZE), cams=True)
    for name in ("logits", "cams", *(f"{kind}:{number}" for kind in ("attention", "stage")
                                     for number in range(len(stages)))):
        shape = tuple(aspect(seen, name).shape[1:])
        row = row_of(name, stages, 4)
        assert row == (Row((*shape[1:], shape[0]), "float16") if name.startswith("stage") else Row(shape))


@pytest.mark.parametrize(("epochs", "count", "rows"), [(2, 5, 2), (5, 5, 5), (7, 5, 5), (3, 0, 1)])
def test_a_run_needs_every_view_that_its_epochs_show_once(teacher, epochs, count, rows):
    subset = np.array([1, 4, 7])
    found = np.concatenate(list(needed(subset, student(teacher, epochs=epochs, views=count), 10)))
    assert len(found) == len(set(found)) == 3 * rows
    shown = {(int(image), int(view)) for epoch in range(epochs) for image, view in zip(
        subset, views.view_number(epoch, subset, count) if count else np.zeros(3, int), strict=True)}
    assert shown == {(int(row) % 10, int(row) // 10) for row in found}


def test_passes_and_disk_are_foretold(store, teacher, data, monkeypatch):
    about = student(teacher), TEACHER, 4, 42, store
    first = foretell(*about)
    assert first.passes == 2 * 42
    assert first.size >= 84 * (16 + 4)
    assert foretell(student(teacher, data_fraction=0.5), *about[1:]).passes == 42
    assert foretell(student(teacher, views=0, epochs=9), *about[1:]).passes == 42
    assert foretell(TEACHER, *about[1:]) == Ask(0, 0)
    facts = facts_of(teacher, about[0], data, CPU, lesson_rows.arithmetic.precision_of(about[0]))
    images = facts["images"]
    folder = lessons.folder_of(teacher, facts)
    shelf = Shelf(folder, {"logits": Row((4,))}, write=True)
    write_json(folder / "meta.json", facts)
    half = next(needed(np.arange(images), about[0], images))
    shelf.write(half, {"logits": np.ones((images, 4), np.float32)})
    assert foretell(*about).passes == 42
    assert 0 < foretell(*about).size <= first.size
    assert foretell(student(teacher, epochs=1), *about[1:]) == Ask(0, 0)
    assert foretell(student(teacher, augmentation=0.9), *about[1:]).passes == 84
    monkeypatch.setenv("KD_LENS_LESSONS_GB", "0.000001")
    assert foretell(*about) == Ask(42, 0)
    monkeypatch.setenv("KD_LENS_LESSONS_GB", "0")
    assert foretell(*about) == Ask(84, 0)


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].needs_teacher])
def test_every_method_can_be_foretold_and_draws_no_random_number(store, teacher, method):
    state = torch.get_rng_state()
    assert foretell(replace(student(teacher), method=method), TEACHER, 4, 42, store).passes == 84
    assert torch.equal(torch.get_rng_state(), state)
