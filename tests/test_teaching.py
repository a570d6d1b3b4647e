"""Lessons: kept or asked anew, they are the same."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from made_runs import made
from safetensors.torch import load
from small import DATA, SIZE, explainer_of, spec, trained

from kd import lessons
from kd.batches import TrainBatches
from kd.datasets import open_dataset
from kd.errors import Stopped, UsageError
from kd.lesson_rows import chunk_of, prepared
from kd.methods import METHODS
from kd.models import build, weights
from kd.models.base import Classifier
from kd.observation import Drawing
from kd.runs import Store
from kd.shelf import folder_size
from kd.spec import RunSpec
from kd.teaching import Teaching, teacher_of
from kd.train import train

CHUNK = chunk_of("cpu")
TEACHING = [name for name in METHODS if METHODS[name].needs_teacher]
STUDENT = {"epochs": 2, "views": 2, "depth": 3}


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def data(store):
    return open_dataset(DATA, SIZE, store.places)


@pytest.fixture
def teacher(store, data):
    return made(store, spec(model="test_resnet"), data.classes)


def student(teacher, **changes) -> RunSpec:
    return spec(**{"method": "kd", "teacher": teacher.id, **STUDENT, **changes})


def teaching(store, teacher, data, keep=True, log=lambda *_, **__: None, **changes) -> Teaching:
    about = student(teacher, **changes)
    method = prepared(about, teacher.spec, len(data.classes))
    fabric = Fabric(accelerator="cpu", devices=1, precision=changes.get("precision", "32-true"))
    found = Teaching(teacher, about, data, method, fabric, log)
    if keep:
        found.keep(store, store.create(about), np.arange(len(data.train)))
    return found


def batches(data, size=8, seed=0, count=2):
    return TrainBatches(data.train, np.arange(len(data.train)), size, seed, count, data.info.flip, 0.25)


def lived(one: Teaching, of: TrainBatches, epochs=2) -> dict[tuple[int, int], dict[str, torch.Tensor]]:
    """Every image's part of its lessons, by epoch and image; the batches come in their order."""
    found = {}
    for epoch in range(epochs):
        plain = list(of.epoch(epoch, torch.device("cpu")))
        for number, batch in enumerate(one.epoch(of, epoch)):
            assert torch.equal(batch.images, plain[number].images)
            lesson = one.lesson(batch)
            assert set(lesson) == set(one.wants)
            assert all(part.dtype == torch.float32 and not part.requires_grad for part in lesson.values())
            found |= {(epoch, int(image)): {name: part[place] for name, part in lesson.items()}
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
        teacher_of(spec(method="kd", teacher=teacher.id), store, ("a", "b"))
    with pytest.raises(UsageError, match="needs a teacher"):
        teacher_of(spec(method="kd"), store, ("a", "b"))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("method", TEACHING)
def test_what_was_kept_of_other_batches_is_what_would_be_said_now(store, teacher, data, passes, method, precision):
    about, tolerance = {"method": method, "precision": precision}, 1e-3 if precision == "32-true" else 0.05
    live = lived(teaching(store, teacher, data, keep=False, **about), batches(data, 8))
    other = teaching(store, teacher, data, **about)
    assert same(live, lived(other, batches(data, 13, seed=3)), tolerance)
    assert other.taught == 2 * len(data.train)
    passes.clear()
    kept = teaching(store, teacher, data, **about)
    again = lived(kept, batches(data, 8))
    assert same(live, again, tolerance)
    assert live.keys() == again.keys()
    assert passes == []
    assert (kept.report()["share"], kept.taught, kept._teacher) == (1.0, 0, None)


ASKING = [name for name in TEACHING if METHODS[name]().asks]


def drawn(method, size=4, samples=1):
    model = build(spec(method=method, **explainer_of(method)), 4).train()
    return model(torch.rand(size, 3, SIZE, SIZE), drawing=Drawing(0.5, samples, 0.0))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("size", [1, 4, 5])
@pytest.mark.parametrize("method", ASKING)
def test_the_teacher_answers_about_drawn_pictures_and_they_feel_what_would_change_its_mind(
        store, teacher, data, method, size, samples):
    one, seen = teaching(store, teacher, data, keep=False, method=method), drawn(method, size, samples)
    before = [value.clone() for value in one.teacher.state_dict().values()]
    found = one.answers(seen)
    assert tuple(found) == one.asks
    for name in one.asks:
        pictures = getattr(seen.drawn, name)
        assert len(pictures) == samples * ((size + 1) // 2)
        torch.testing.assert_close(found[name], one.teacher(pictures).logits)
        [felt] = torch.autograd.grad(found[name].square().sum(), pictures, retain_graph=True)
        assert felt.flatten(1).abs().sum(dim=1).min() > 0
    sum(part.sum() for part in found.values()).backward()
    assert not one.teacher.training
    assert all(weight.grad is None and not weight.requires_grad for weight in one.teacher.parameters())
    assert all(map(torch.equal, one.teacher.state_dict().values(), before))
    assert one.taught == 0


@pytest.mark.parametrize(("name", "exact"), [("test_resnet", False), ("mobilenetv3_small_050", True)])
def test_answers_are_single_precision_and_a_depthwise_teacher_computes_in_it(store, data, name, exact):
    teacher = made(store, spec(model=name), data.classes)
    one = teaching(store, teacher, data, keep=False, method="medtex", precision="bf16-mixed")
    seen = drawn("medtex")
    found = one.answers(seen)["shown"]
    assert found.dtype == torch.float32
    single = one.teacher(torch.cat([seen.drawn.shown, seen.drawn.rest])).logits[:2]
    assert ((found - single).abs().max() < 1e-5) == exact, "bfloat16 keeps three digits"


@pytest.mark.parametrize("size", [1, 5, 20, 32, 40])
def test_the_teacher_sees_full_chunks_whatever_the_batch(store, teacher, data, passes, size):
    live = lived(teaching(store, teacher, data, keep=False), batches(data, 8), 1)
    passes.clear()
    assert same(live, lived(teaching(store, teacher, data, keep=False), batches(data, size), 1))
    assert set(passes) == {CHUNK}
    # 44 images: two chunks of 32, unless a batch is so large that some are left out.
    assert len(passes) == -(-len(batches(data, size)) * size // CHUNK)


def test_a_lesson_can_be_had_without_looking_ahead(store, teacher, data):
    one = teaching(store, teacher, data)
    ahead = lived(one, batches(data, 8), 1)
    plain = teaching(store, teacher, data, keep=False)
    for batch in batches(data, 8).epoch(0, torch.device("cpu")):
        for name, part in plain.lesson(batch).items():
            assert all(torch.allclose(row, ahead[0, int(image)][name], atol=1e-5) for row, image in zip(
                part, batch.numbers, strict=True))


def test_only_what_is_missing_or_damaged_is_asked_again(store, teacher, data):
    first = teaching(store, teacher, data)
    live = lived(first, batches(data))
    with (first.folder / "logits.rows").open("r+b") as file:
        file.seek(3 * 16)
        file.write(b"damaged!")
    os.truncate(first.folder / "logits.tags", 4 * 80)
    again = teaching(store, teacher, data)
    assert again.missing == 8
    assert same(live, lived(again, batches(data)))
    assert again.taught == 8 + 1
    assert teaching(store, teacher, data).report()["share"] == 1.0


def test_a_changed_teacher_is_asked_anew_and_never_mixed(store, teacher, data):
    first = teaching(store, teacher, data)
    before = lived(first, batches(data), 1)
    waiting = teaching(store, teacher, data, epochs=3, views=3)
    model = teaching(store, teacher, data, keep=False).teacher
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    weights.save(model, teacher.weights)
    after = teaching(store, teacher, data)
    assert after.kept == 0
    assert not same(before, lived(after, batches(data), 1))
    with pytest.raises(UsageError, match="changed while a student was learning"):
        lived(waiting, batches(data, count=3), 3)


def test_half_precision_of_stages_is_a_rounding_and_stays_finite(store, teacher, data):
    one = teaching(store, teacher, data, keep=False, method="hint")
    batch = next(batches(data).epoch(0, torch.device("cpu")))
    [(name, lesson)] = one.lesson(batch).items()
    with torch.no_grad():
        exact = one.teacher(batch.images).stages[int(name.split(":")[1])]
    torch.testing.assert_close(lesson, exact, rtol=1e-3, atol=1e-4)
    assert lesson.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in one.teacher.parameters():
            parameter.mul_(1e3)
    assert all(part.isfinite().all() for part in one.lesson(batch).values())


def full_after(monkeypatch, writes):
    real, left = os.pwrite, [writes]

    def pwrite(*args):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    monkeypatch.setattr(os, "pwrite", pwrite)


def test_a_full_disk_is_said_once_and_makes_way(store, teacher, data, monkeypatch):
    live = lived(teaching(store, teacher, data, keep=False), batches(data))
    words = []
    full_after(monkeypatch, 50)
    one = teaching(store, teacher, data, log=lambda name, **values: words.append((name, values)))
    assert same(live, lived(one, batches(data)))
    assert [(name, values["live"]) for name, values in words] == [("lessons", False), ("lessons", True)]
    assert words[-1][1]["why"] == "the disk refuses to keep them (No space left on device)"
    assert words[-1][1]["bytes"] == 0
    assert not one.folder.exists()


def test_a_full_disk_takes_nothing_from_another_student(store, teacher, data, monkeypatch):
    lived(teaching(store, teacher, data), batches(data), 1)
    full_after(monkeypatch, 0)
    with store.create(student(teacher, seed=7)).lock():
        one = teaching(store, teacher, data)
        lived(one, batches(data))
    assert one.report()["live"]
    assert one.taught == len(data.train) - len(data.train) % 8
    assert one.folder.exists()


def test_a_folder_that_cannot_be_made_is_said(store, teacher, data):
    (teacher.path / lessons.FOLDER).write_text("in the way")
    one = teaching(store, teacher, data)
    assert one.report()["live"]
    assert "the disk refuses" in one.why
    assert len(lived(one, batches(data), 1)) == 40


def test_what_finds_no_room_is_taught_live_and_what_is_kept_is_read(store, teacher, data, monkeypatch):
    lived(teaching(store, teacher, data, epochs=1), batches(data), 1)
    monkeypatch.setenv("KD_LENS_LESSONS_GB", "0.000002")
    one = teaching(store, teacher, data)
    assert (one.kept, one.missing) == (44, 44)
    assert "KD_LENS_LESSONS_GB" in one.why
    before = folder_size(one.folder)
    lived(one, batches(data))
    assert one.taught == 40
    assert folder_size(one.folder) == before


def test_the_limit_holds_while_rows_come(store, teacher, data, monkeypatch):
    monkeypatch.setattr(lessons, "STRIDE", 100)
    one = teaching(store, teacher, data)
    monkeypatch.setenv("KD_LENS_LESSONS_GB", "0.000001")
    lived(one, batches(data))
    assert one.why.startswith("the room has run out")
    assert lessons.find(teacher) is not None
    assert teaching(store, teacher, data).kept == CHUNK


def test_two_students_fill_one_folder_at_once(store, teacher, data):
    live = lived(teaching(store, teacher, data, keep=False), batches(data))

    def learn(seed):
        torch.set_num_threads(1)
        return lived(teaching(store, teacher, data, seed=seed), batches(data, seed=seed))

    with ThreadPoolExecutor(3) as threads:
        assert all(same(live, found) for found in threads.map(learn, range(3)))
    assert teaching(store, teacher, data).report()["share"] == 1.0


@pytest.fixture
def unkept(store, teacher, monkeypatch):
    """Weights of a student that was taught live."""
    def weights_of(**changes):
        with monkeypatch.context() as patch:
            patch.setenv("KD_LENS_LESSONS_GB", "0")
            run = trained(store, **{"method": "kd", "teacher": teacher.id, **STUDENT, **changes})
        assert run.last("lessons")["why"] == "KD_LENS_LESSONS_GB is 0"
        assert not (teacher.path / lessons.FOLDER).exists() or lessons.find(teacher) is not None
        found = content(run)
        store.delete(run.id)
        return found

    return weights_of


@pytest.mark.parametrize(("method", "precision"), [("kd", "32-true"), ("hint", "bf16-mixed")])
def test_a_student_has_the_same_weights_with_and_without(store, teacher, unkept, passes, method, precision):
    about = {"method": method, "teacher": teacher.id, "precision": precision, **STUDENT}
    first, second = unkept(**about), unkept(**about, seed=1)
    asked = trained(store, **about)
    assert content(asked) == first, "its own answers, from chunks that are the same"
    told = [event for event in asked.events() if event["event"] == "lessons"]
    assert [(event["kept"], event["share"], event["live"]) for event in told] == [(0, 0.0, False)] * 2
    assert told[0]["bytes"] < told[1]["bytes"] == lessons.kept_bytes(teacher)
    passes.clear()
    read = trained(store, **about, seed=1)
    ours, theirs = load(content(read)), load(second)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():  # answers from chunks of another order, whose rows may be rounded differently
        torch.testing.assert_close(ours[name], value, rtol=1e-2, atol=1e-3)
    assert passes == []
    assert read.last("lessons")["share"] == 1.0


def test_a_full_disk_and_a_kill_change_no_weight(store, teacher, unkept, monkeypatch):
    whole = unkept()
    run = store.create(student(teacher))
    count = iter(range(100))
    with pytest.raises(Stopped):
        train(run, store, lambda: next(count) >= 7)
    with monkeypatch.context() as patch:
        full_after(patch, 20)
        train(run, store)
    assert content(run) == whole
    assert run.last("lessons")["live"]
