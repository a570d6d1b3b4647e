"""A student behind an explainer: what it sees, what it says, and what it leaves to the student alone."""

import copy
import math
import pickle
import threading
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from kd.errors import UsageError
from kd.metrics.inpainting import blur
from kd.models import build, build_untrained, receptive_field, stage_shapes, weights
from kd.models.masked_student import MaskedStudent, ranked_mask
from kd.observation import MaskSampling
from kd.spec import RunSpec

SIZE, CLASSES = 48, 3
STUDENTS = {"plain": {"depth": 3, "width": 4}, "truncated": {"model": "truncated", "base": "test_resnet", "depth": 2},
            "timm": {"model": "test_resnet"}, "another head": {"model": "test_convnext"}}
FILLS = ("mean", "blur")
DRAWING = MaskSampling(1.0)
AREA = 0.25


def spec(student: str = "plain", **changes) -> RunSpec:
    return RunSpec(**{"image_size": SIZE, "mask_net_depth": 2, "mask_net_width": 4, "mask_area": AREA,
                      **STUDENTS[student], **changes})


def made(student: str = "plain", **changes) -> MaskedStudent:
    """One whose masks differ from place to place, in eval mode."""
    model = build(spec(student, **changes), CLASSES).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(model.mask_net.score.weight, 0, 2)
    model.set_mean_image(torch.rand(3, SIZE, SIZE))
    return model


def scored(model: MaskedStudent, score: float) -> MaskedStudent:
    """With these log-odds everywhere."""
    torch.nn.init.zeros_(model.mask_net.score.weight)
    torch.nn.init.constant_(model.mask_net.score.bias, score)
    return model


def pictures(count: int = 4, size: int = SIZE, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("size", [28, 33, 97])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_one_forward_gives_label_and_mask_whatever_the_size(depth, size, fill):
    model = build(spec(image_size=size, mask_net_depth=depth, mask_fill=fill), CLASSES)
    seen = model.train()(pictures(2, size), drawing=DRAWING)
    assert seen.mask_samples.scores.shape == (2, -(-size // 2), -(-size // 2))
    assert seen.mask_samples.answers.shape == (2, CLASSES)
    with torch.no_grad():
        alone = model.eval()(pictures(2, size))
    assert alone.mask_samples is None
    for one in (seen, alone):
        assert one.logits.shape == (2, CLASSES)
        assert one.mask.shape == (2, size, size)
        assert set(one.mask.unique().tolist()) <= {0.0, 1.0}
        assert [maps.shape[1:] for maps in one.stages] == list(stage_shapes(spec(image_size=size), CLASSES))


@pytest.mark.parametrize("fill", FILLS)
def test_what_a_mask_hides_is_the_fill_and_what_it_shows_is_the_picture(fill):
    model, images = made(mask_fill=fill), pictures()
    hidden = blur(images) if fill == "blur" else model.mean_image.expand(4, -1, -1, -1)
    mask = torch.zeros(4, SIZE, SIZE)
    assert torch.equal(model.apply_mask(images, mask), hidden)
    assert torch.equal(model.apply_mask(images, mask + 1), images)
    part = model.apply_mask(images, mask + 0.25)
    torch.testing.assert_close(part, 0.25 * images + 0.75 * hidden)


def test_several_masks_of_a_picture_follow_one_another():
    model, images = made(), pictures(2)
    masks = torch.rand(6, SIZE, SIZE)
    one_by_one = torch.cat([model.apply_mask(images, masks[start:start + 2]) for start in (0, 2, 4)])
    torch.testing.assert_close(model.apply_mask(images, masks), one_by_one)


def test_the_mean_image_fits_pictures_of_another_size():
    model = made()
    with torch.no_grad():
        assert model(pictures(2, 64)).mask.shape == (2, 64, 64)
    even = model.apply_mask(pictures(1, 64), torch.zeros(1, 64, 64))
    expected = F.interpolate(model.mean_image[None], (64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(even, expected)


@pytest.mark.parametrize(("score", "value"), [(-3.0, 0.0), (3.0, 1.0)])
def test_a_soft_mask_of_the_first_versions_hides_and_shows_by_its_log_odds(score, value):
    model = scored(made(mask_area=0.0), score)
    assert (model.predict_mask(pictures()) == value).all()
    assert torch.equal(model.mask_map(pictures()), model.predict_mask(pictures()))


@pytest.mark.parametrize("area", [0.02, 0.1, 0.5])
def test_a_mask_shows_the_share_of_every_image_that_was_set(area):
    model = made(mask_area=area)
    with torch.no_grad():
        masks, maps = model.predict_mask(pictures()), model.mask_map(pictures())
    torch.testing.assert_close(masks.mean(dim=(1, 2)), torch.full((4,), area), atol=2 / (SIZE // 2) ** 2, rtol=0)
    assert (maps.amax(dim=(1, 2)) == 1).all() and maps.min() >= 0
    for mask, heat in zip(masks, maps, strict=True):
        assert mask[heat == 1].all(), "the peak is shown"
        assert heat[mask == 1].mean() > heat[mask == 0].mean()


def test_places_are_ranked_within_each_image_and_equal_ones_shown_together():
    scores = torch.tensor([[[4.0, 1.0], [3.0, 2.0]], [[-1.0, -4.0], [-2.0, -3.0]], [[0.0, 0.0], [0.0, 0.0]]])
    found = ranked_mask(scores, torch.tensor([0.5, 0.75, 0.01]))
    assert found.tolist() == [[[1, 0], [1, 0]], [[1, 0], [1, 1]], [[1, 1], [1, 1]]]


@pytest.mark.parametrize("number", [torch.bfloat16, torch.float16])
def test_places_can_be_told_apart_in_half_precision(number):
    """Of 256 log-odds between two powers of two, half precision would leave a few dozen."""
    model = build(spec(image_size=96, mask_area=0.1), CLASSES).eval()
    torch.nn.init.normal_(model.mask_net.score.weight, 0, 2)
    with torch.no_grad(), torch.autocast("cpu", number):
        masks = model.predict_mask(pictures(4, 96))
    torch.testing.assert_close(masks.mean(dim=(1, 2)), torch.full((4,), 0.1), atol=0.004, rtol=0)


@pytest.mark.parametrize("student", STUDENTS)
def test_nothing_leaks_through_a_closed_mask(student):
    model = made(student)
    model._mask = lambda scores, side: scores.new_zeros(len(scores), side, side)
    images = pictures().requires_grad_()
    logits = model(images).logits
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))  # rows of one batch may round differently
    [felt] = torch.autograd.grad(logits.sum(), images)
    assert (felt == 0).all()


def test_an_open_mask_leaves_the_student_as_it_would_be_alone():
    model, images = scored(made(), 3.0), pictures()  # no place ranks above another
    with torch.no_grad():
        assert torch.equal(model(images).logits, model.student(images).logits)


@pytest.mark.parametrize("fill", FILLS)
def test_looking_draws_nothing_and_threads_may_share_it(fill):
    model, state = made(mask_fill=fill), torch.get_rng_state()
    images = [pictures(1, seed=seed) for seed in range(2)]
    with torch.no_grad():
        alone = [model(image) for image in images]
    wrong = []

    def look(which: int) -> None:
        torch.set_num_threads(1)
        with torch.no_grad():
            for _ in range(15):
                seen = model(images[which])
                same = torch.equal(seen.mask, alone[which].mask) and torch.equal(seen.logits, alone[which].logits)
                wrong.extend([which] * (not same))

    threads = [threading.Thread(target=look, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("student", STUDENTS)
def test_every_way_of_asking_it_agrees_with_the_forward_pass(student):
    model, images = made(student), pictures()
    with torch.no_grad():
        seen = model(images, cams=True)
        behind = model.student(model.apply_mask(images, model.predict_mask(images)), cams=True)
        maps = model.forward_stages(model.prepare(images))
        assert torch.equal(model.predict_mask(images), seen.mask)
        assert torch.equal(behind.logits, seen.logits) and torch.equal(behind.cams, seen.cams)
        assert torch.equal(model.class_activation_maps(seen.stages[-1]), seen.cams)
        assert torch.equal(model.forward_head(seen.stages[-1].clone()), seen.logits)
        assert (model.pooled_linear is None) == (student == "another head")
        for stage, features in enumerate(seen.stages):
            torch.testing.assert_close(maps[stage], features, rtol=1e-3, atol=1e-4)
            onwards = model.forward_from(images, stage, features.clone())
            torch.testing.assert_close(onwards, seen.logits, rtol=1e-3, atol=1e-4)
            blank = model.forward_from(images, stage, torch.zeros_like(features))
            alone = model.student.forward_from(model.apply_mask(images, seen.mask), stage, torch.zeros_like(features))
            torch.testing.assert_close(blank, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("start", [build, build_untrained])
@pytest.mark.parametrize("student", STUDENTS)
def test_the_student_begins_with_the_weights_that_it_begins_with_alone(student, start):
    about = spec(student, seed=7)
    behind, bare = start(about, CLASSES), start(about.without_mask_net, CLASSES)
    found, expected = behind.student.state_dict(), bare.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert behind.mean is behind.student.mean
    assert behind.stages == bare.stages
    other = start(replace(about, seed=8), CLASSES).mask_net
    assert not torch.equal(behind.mask_net.stem[0].weight, other.stem[0].weight)


@pytest.mark.parametrize(("source", "student"), [("plain", "plain"), ("timm", "timm"), ("timm", "truncated")])
def test_a_student_behind_an_explainer_starts_from_a_file_as_it_would_alone(tmp_path, source, student):
    weights.save(build(spec(source, seed=3).without_mask_net, CLASSES), tmp_path / "trained.safetensors")
    about = spec(student, pretrained=str(tmp_path / "trained.safetensors"))
    found, expected = build(about, CLASSES).student.state_dict(), build(about.without_mask_net, CLASSES).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    fresh = build(replace(about, pretrained="none"), CLASSES).student.state_dict()
    assert any(not torch.equal(found[name], value) for name, value in fresh.items())


def test_of_the_weights_of_an_explained_run_a_student_takes_its_own_and_that_is_said(tmp_path):
    weights.save(model := made(), tmp_path / "explained.safetensors")
    for about in (spec(), spec().without_mask_net):
        found = build(replace(about, pretrained=str(tmp_path / "explained.safetensors")), CLASSES)
        own = found.student if found.has_mask else found
        assert all(torch.equal(value, model.student.state_dict()[name]) for name, value in own.state_dict().items())
        assert "Taken were the tensors under student.; left out: m" in found.initial_notes[0]


@pytest.mark.parametrize("student", STUDENTS)
def test_both_networks_and_the_mean_image_are_kept_in_one_file(tmp_path, student):
    model, images = made(student), pictures()
    weights.save(model, tmp_path / "weights.safetensors")
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert {name.split(".")[0] for name in file.keys()} == {"student", "mask_net", "mean_image"}  # noqa: SIM118
    again = build_untrained(spec(student, seed=5), CLASSES).eval()
    weights.load(again, tmp_path / "weights.safetensors")
    assert torch.equal(again.mean_image, model.mean_image)
    with torch.no_grad():
        assert torch.equal(again(images).mask, model(images).mask)
        assert torch.equal(again(images).logits, model(images).logits)


def earlier(state: dict) -> dict:
    """A masked student's weights under the names that they had in the first runs."""
    return {name.replace("mask_net.", "explainer.").replace("mean_image", "average"): value
            for name, value in state.items()}


def test_weights_under_their_earlier_names_are_read(tmp_path):
    model, file = made(), tmp_path / "weights.safetensors"
    save_file(earlier(model.state_dict()), file)
    for read in (lambda other: weights.load(other, file),
                 lambda other: other.load_state_dict(earlier(model.state_dict()))):
        other = build_untrained(spec(seed=5), CLASSES)
        read(other)
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("reproduce", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
                         ids=["copied", "pickled"])
def test_a_reproduced_model_lays_the_same_mask(reproduce):
    model = made()
    with torch.no_grad():
        seen, again = model(pictures()), reproduce(model)(pictures())
    assert torch.equal(seen.mask, again.mask) and torch.equal(seen.logits, again.logits)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("number", [torch.bfloat16, torch.float16])
def test_in_half_precision_mask_and_pictures_are_made_in_single(fill, number):
    model, images = made(mask_fill=fill), pictures()
    with torch.no_grad(), torch.autocast("cpu", number):
        seen = model(images, drawing=DRAWING)
        hidden = model.apply_mask(images, torch.zeros(4, SIZE, SIZE))
    assert {one.dtype for one in (seen.mask, seen.mask_samples.scores)} == {torch.float32}
    assert torch.equal(hidden, model.apply_mask(images, torch.zeros(4, SIZE, SIZE)))


def test_only_a_target_trains_the_mask_network():
    """The student's answers do not: it would spell the class in the shape of its mask."""
    model = made()
    seen = model(pictures(), drawing=DRAWING)
    parts = list(model.mask_net.parameters())
    loss = F.cross_entropy(torch.cat([seen.logits, seen.mask_samples.answers]), torch.tensor([0, 1, 2, 0] * 2))
    assert set(torch.autograd.grad(loss, parts, allow_unused=True, retain_graph=True)) == {None}
    learnt = torch.autograd.grad(seen.mask_samples.scores.square().sum(), parts)
    assert all(one.isfinite().all() and one.abs().max() > 0 for one in learnt)


@pytest.mark.parametrize(("widest", "low", "high"), [(0.25, 0.25, 0.25), (1.0, 0.25, 1.0), (0.1, 0.25, 0.25)])
def test_a_second_mask_has_a_random_area_up_to_the_widest(widest, low, high):
    model = made()
    torch.manual_seed(0)
    shares = model._random_areas(torch.zeros(2000, 4, 4), widest)
    assert low - 1e-6 <= shares.min() and shares.max() <= high + 1e-6
    if high > low:  # uniform in its logarithm
        assert shares.log().mean().item() == pytest.approx((math.log(low) + math.log(high)) / 2, abs=0.05)


def test_batch_norm_takes_one_batch_of_both_masks():
    """And leaves as running statistics those of this batch; the mask network's are of the whole images."""
    model, images = made().train(), pictures()
    rows = []
    model.student.layers[0].register_forward_pre_hook(lambda _, given: rows.append(given[0].detach()))
    model(images, drawing=DRAWING)
    assert [len(one) for one in rows] == [4 * 2]
    convolution, norm = next(model.student.layers[0].children()), model.student.layers[0][1]
    with torch.no_grad():
        expected = norm.momentum * convolution(rows[0]).mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected)
    first, stem = model.mask_net.stem[0], model.mask_net.stem[1]
    with torch.no_grad():
        whole = stem.momentum * first((images - model.mean) / model.std).mean(dim=(0, 2, 3))
    torch.testing.assert_close(stem.running_mean, whole)


@pytest.mark.parametrize("student", ["plain", "truncated"])
def test_its_stages_see_of_the_masked_picture_what_the_student_sees(student):
    about = spec(student)
    assert receptive_field.receptive_fields(about) == receptive_field.receptive_fields(about.without_mask_net)
    boxes = [receptive_field.receptive_field_of(one, 0, (1, 1)) for one in (about, about.without_mask_net)]
    assert boxes[0] == boxes[1]


def test_a_model_without_an_explainer_has_no_mask_and_says_so():
    model = build(spec().without_mask_net, CLASSES)
    assert not model.has_mask and made().has_mask
    with pytest.raises(UsageError, match="distilled with a mask network"):
        model.predict_mask(pictures())
    with pytest.raises(UsageError, match="distilled with a mask network"):
        model.mask_map(pictures())


def test_it_can_be_exported_for_batches_of_any_size():
    student, images = made("plain"), pictures(5)
    sizes = ({0: torch.export.Dim("batch", min=1, max=64)}, None, None, None)
    exported = torch.export.export(student, (pictures(2), False, False, None), dynamic_shapes=sizes)
    with torch.no_grad():
        seen, found = student(images), exported.module()(images, False, False, None)
    torch.testing.assert_close(found.logits, seen.logits)
    torch.testing.assert_close(found.mask, seen.mask)
