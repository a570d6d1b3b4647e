"""MED-TEX from beginning to end: real runs, and a mask that finds what the teacher goes by."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_runs import made
from made_sets import make_npz
from small import distilled, explainer_of, request, small_data, spec, trained

from kd.datasets import open_dataset
from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.evaluation import predict
from kd.experiments.plan import plan_first_seed
from kd.experiments.sweep import Sweep
from kd.experiments.sweep import plan as plan_sweep
from kd.methods import METHODS
from kd.models import build
from kd.models.masked_student import MaskedStudent
from kd.paths import Paths
from kd.store.groups import control_of
from kd.store.runs import Store
from kd.training.loop import train

SMALL = explainer_of("medtex")
TERMS = {"hard", "information", "target"}


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def teacher(store):
    return made(store, spec(model="test_resnet"), small_data(store.paths).classes)


def test_a_distillation_is_a_teacher_a_student_behind_an_explainer_and_the_student_alone(store):
    trio = distilled(store, method="medtex", **SMALL)
    about = trio.student.spec
    assert (about.mask_net_depth, about.mask_net_width, about.mask_fill) == (1, 4, "mean")
    assert (about.mask_area, about.mask_target) == (0.25, "sensitivity")
    assert (
        trio.control.spec
        == plan_first_seed(request(method="kd"), store).control.spec
        == about.without_mask_net.from_json(
            {**about.without_mask_net.to_json(), "method": "supervised", "method_args": {}, "teacher": ""}
        )
    )
    assert control_of(store, trio.student) == trio.control
    assert [set(event["terms"]) for event in trio.student.epochs()] == [TERMS] * 2
    model = predict.load(trio.student, 4)
    train_images = small_data(store.paths).train.images
    expected = torch.from_numpy(train_images.mean(axis=0) / 255).permute(2, 0, 1).float()
    torch.testing.assert_close(model.mean_image, expected)
    with torch.no_grad():
        seen = model(to_tensor(train_images[:4]))
    assert seen.mask.mean().item() == pytest.approx(0.25, abs=0.01)
    assert not isinstance(predict.load(trio.control, 4), MaskedStudent)
    begun = build(about, 4)
    assert not torch.equal(begun.mask_net.stem[0].weight, model.mask_net.stem[0].weight)
    assert trio.student.summary["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert trio.student.summary["flops"] > trio.control.summary["flops"]


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].needs_mask_net])
def test_no_other_method_gets_an_explainer_by_itself_or_by_hand(store, teacher, method):
    about = spec(method=method, teacher=teacher.id, **SMALL)
    with pytest.raises(UsageError, match=f"method '{method}' would not train. Choose 'medtex', or set it to 0"):
        train(store.create(about), store)
    if METHODS[method].needs_teacher:
        assert plan_first_seed(request(method=method, mask_net_depth=2), store).student.spec.mask_net_depth == 0


def test_an_explainer_must_be_there_to_be_trained(store, teacher):
    with pytest.raises(UsageError, match="trains a mask network in front of the student. Set mask_net_depth"):
        train(store.create(spec(method="medtex", teacher=teacher.id)), store)


def test_methods_with_and_without_an_explainer_share_teacher_and_controls_in_a_sweep(store):
    found = plan_sweep(Sweep(request(seeds=2, **SMALL), {"method": ("kd", "medtex"), "alpha": (0.1, 0.5)}), store)
    assert len(found) == 4
    students = {id_ for cell in found for _, id_ in cell.pairs}
    assert len(students) == 8
    assert len({cell.teacher for cell in found}) == 1
    assert len({control for cell in found for control, _ in cell.pairs}) == 2
    assert sum(store[id_].spec.mask_net_depth for id_ in students) == 4


def test_the_teacher_is_only_asked(store, teacher, monkeypatch):
    loaded, real, before = [], predict.load, teacher.weights.read_bytes()
    monkeypatch.setattr(predict, "load", lambda *args: loaded.append(real(*args)) or loaded[-1])
    trained(store, method="medtex", teacher=teacher.id, **SMALL)
    [model] = loaded
    assert not any(module.training for module in model.modules())
    assert all(weight.grad is None and not weight.requires_grad for weight in model.parameters())
    assert teacher.weights.read_bytes() == before
    fresh = real(teacher, 4).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("changes", "words"), [
    ({"mask_area": 0.0}, "Soft masks of any area are trained no more. Set mask_area"),
    ({"mask_target": "none"}, "the mask network would learn nothing. Choose sensitivity or outlines")])
def test_a_mask_without_an_area_or_a_target_is_refused(store, teacher, changes, words):
    with pytest.raises(UsageError, match=words):
        train(store.create(spec(method="medtex", teacher=teacher.id, **{**SMALL, **changes})), store)


@pytest.mark.parametrize(
    "changes",
    [
        {"data_fraction": 0.5},
        {"model": "truncated", "base": "test_resnet"},
        {"model": "test_resnet"},
        {"mask_fill": "blur", "precision": "bf16-mixed"},
        {"precision": "bf16-mixed"},
        {"views": 0, "depth": 1},
        {"mask_target": "outlines", "random_masks": 0.5},
        {"method_args": {"features": 1, "widest": 0.1}},
        {"method_args": {"target_weight": 0}},
    ],
    ids=str,
)
def test_it_trains_whatever_stands_behind_and_however_it_is_set(store, teacher, changes):
    run = trained(store, **{"method": "medtex", "teacher": teacher.id, **SMALL, **changes})
    assert all(np.isfinite(list(event["terms"].values())).all() for event in run.epochs())
    assert predict.load(run, 4)(torch.rand(2, 3, 32, 32)).mask.isfinite().all()


def test_it_trains_on_two_classes(store, tmp_path):
    data = make_npz(tmp_path / "two.npz", {"train": 40, "val": 8, "test": 8}, shape=(28, 28))
    teacher = made(store, spec(data=str(data)), open_dataset(str(data), 32, store.paths).classes)
    run = trained(store, data=str(data), method="medtex", teacher=teacher.id, **SMALL)
    assert all(event["terms"]["target"] > 0 for event in run.epochs())
    with pytest.raises(UsageError, match="no training image comes with one. Choose sensitivity"):
        train(store.create(replace(run.spec, mask_target="outlines")), store)


# A set whose evidence is known: which colour channel a disc somewhere in grey noise is bright in.

def discs(count, seed, side=32):
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = draw.normal(90, 20, (count, side, side, 1)).repeat(3, axis=3)
    down, across = draw.uniform(6, side - 6, (2, count, 1, 1))
    inside = np.hypot(*(grid - place for grid, place in zip(np.mgrid[:side, :side], (down, across), strict=True))) < 4
    for label in range(3):
        images[labels == label, :, :, label] += 120 * inside[labels == label]
    return SimpleNamespace(images=images.clip(0, 255).astype(np.uint8), labels=labels, inside=torch.from_numpy(inside))


@pytest.fixture
def found(tmp_path):
    """Of unseen pictures: the discs, the mask on them, and whether the teacher answers as it does of the whole when it
    sees what a mask leaves."""
    parts = {part: discs(count, seed) for seed, (part, count) in enumerate(
        {"train": 240, "val": 48, "test": 60}.items())}
    np.savez(tmp_path / "discs.npz", **{f"{part}_images": one.images for part, one in parts.items()},
             **{f"{part}_labels": one.labels.astype(np.uint8)[:, None] for part, one in parts.items()})
    store = Store(Paths(tmp_path))
    recipe = {"data": str(tmp_path / "discs.npz"), "image_size": 32, "batch_size": 16, "views": 0, "threads": 1,
              "precision": "32-true", "depth": 3}
    teacher = trained(store, **recipe, width=8, epochs=4)
    student = trained(store, **recipe, width=4, epochs=10, learning_rate=0.02, method="medtex",
                      teacher=teacher.id, mask_net_depth=2, mask_net_width=4, mask_area=0.08, mask_target="sensitivity")
    theirs, ours, images = predict.load(teacher, 3), predict.load(student, 3), to_tensor(parts["test"].images)

    def same(mask):
        with torch.no_grad():
            whole, left = theirs(images).logits.argmax(1), theirs(ours.apply_mask(images, mask)).logits.argmax(1)
        return (whole == left).float().mean().item()

    with torch.no_grad():
        mask = ours(images).mask
    return SimpleNamespace(inside=parts["test"].inside, mask=mask, same=same, teacher=teacher, student=student)


def shuffled(mask):
    """Masks of the same area in the places of other pictures: whatever is shown, it was chosen by another picture."""
    return mask.roll(1, dims=0).roll((7, 7), dims=(1, 2))


def test_the_mask_finds_what_the_teacher_goes_by(found):
    assert found.teacher.summary["accuracy"] > 0.95
    assert found.student.summary["accuracy"] > 0.9
    in_the_disc = ((found.mask * found.inside).sum() / found.mask.sum()).item()
    area, disc = found.mask.mean().item(), found.inside.float().mean().item()
    assert area < 0.1
    assert in_the_disc > 4 * disc  # by chance as much as the discs take up
    assert found.same(found.mask) > found.same(shuffled(found.mask)) + 0.25
    assert found.same(found.mask) > found.same(1 - found.mask) + 0.2
