"""A student behind an explainer: what it sees, what it says, and what it leaves to the student alone."""

import copy
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
from kd.models import build, build_untrained, masked_student, receptive_field, stage_shapes, weights
from kd.models.masked_student import MaskedStudent, random_masks
from kd.observation import MaskSampling
from kd.spec import RunSpec
from kd.torch_utils.resize import upsample

SIZE, CLASSES = 48, 3
STUDENTS = {"plain": {"depth": 3, "width": 4}, "truncated": {"model": "truncated", "base": "test_resnet", "depth": 2},
            "timm": {"model": "test_resnet"}, "another head": {"model": "test_convnext"}}
FILLS = ("mean", "blur")
DRAWING = MaskSampling(0.5, 1, 0.0)


def spec(student: str = "plain", **changes) -> RunSpec:
    return RunSpec(**{"image_size": SIZE, "mask_net_depth": 2, "mask_net_width": 4, **STUDENTS[student], **changes})


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
    assert seen.mask_samples.shown.shape == seen.mask_samples.rest.shape == (1, 3, size, size)
    assert seen.mask_samples.answers.shape == (4, CLASSES)
    with torch.no_grad():
        alone = model.eval()(pictures(2, size))
    assert alone.mask_samples is None
    for one in (seen, alone):
        assert one.logits.shape == (2, CLASSES)
        assert one.mask.shape == (2, size, size)
        assert 0 <= one.mask.min() <= one.mask.max() <= 1
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
def test_a_place_can_be_hidden_or_shown_entirely_by_log_odds_that_can_be_learnt(score, value):
    assert (scored(made(), score).predict_mask(pictures()) == value).all()


@pytest.mark.parametrize("student", STUDENTS)
def test_nothing_leaks_through_a_closed_mask(student):
    model = scored(made(student), -3.0)
    images = pictures().requires_grad_()
    logits = model(images).logits
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))  # rows of one batch may round differently
    [felt] = torch.autograd.grad(logits.sum(), images)
    assert (felt == 0).all()


def test_an_open_mask_leaves_the_student_as_it_would_be_alone():
    model, images = scored(made(), 3.0), pictures()
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


def test_the_weights_of_an_explained_run_do_not_fit_a_student_and_that_is_said(tmp_path):
    weights.save(made(), tmp_path / "explained.safetensors")
    for about in (spec(pretrained=str(tmp_path / "explained.safetensors")), spec().without_mask_net):
        with pytest.raises(UsageError, match="do not fit"):
            build(replace(about, pretrained=str(tmp_path / "explained.safetensors")), CLASSES)


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
    assert {one.dtype for one in (seen.mask, seen.mask_samples.shown, seen.mask_samples.rest)} == {torch.float32}
    assert torch.equal(hidden, model.apply_mask(images, torch.zeros(4, SIZE, SIZE)))


@pytest.mark.parametrize("size", [28, 33])
def test_random_masks_show_any_share_and_prefer_no_place(size):
    torch.manual_seed(0)
    masks = random_masks(1000, torch.zeros(1, 3, size, size))
    assert masks.shape == (1000, size, size)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    shares = masks.mean(dim=(1, 2)).sort().values
    assert (shares - torch.linspace(0, 1, 1000)).abs().max() < 0.05  # as even as 1,000 draws are
    paths = masks.mean(dim=0)
    assert (paths - 0.5).abs().max() < 0.08  # five standard errors of a fair coin
    corners = paths[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert corners == pytest.approx(paths[size // 4:-size // 4, size // 4:-size // 4].mean().item(), abs=0.03)


def test_random_masks_are_blobs():
    torch.manual_seed(0)
    masks = random_masks(50, torch.zeros(1, 3, 96, 96))
    assert masks.diff(dim=1).abs().mean() < 0.05  # of unrelated pixels a third would differ from the one below


def grown(joint: float, student: str = "plain") -> list[torch.Tensor]:
    """What the student's answers under drawn masks ask of the explainer."""
    model = made(student)
    torch.manual_seed(3)
    seen = model(pictures(), drawing=MaskSampling(0.5, 1, joint))
    loss = F.cross_entropy(torch.cat([seen.logits, seen.mask_samples.answers]), torch.tensor([0, 1, 2, 0] * 3))
    found = torch.autograd.grad(loss, list(model.mask_net.parameters()), allow_unused=True)
    return [torch.zeros(()) if one is None else one for one in found]


def test_the_students_loss_reaches_the_explainer_by_the_share_asked_for():
    none, half, all_of_it = grown(0.0), grown(0.5), grown(1.0)
    assert all((one == 0).all() for one in none)
    assert max(one.abs().max() for one in all_of_it) > 1e-4
    for some, whole in zip(half, all_of_it, strict=True):
        torch.testing.assert_close(2 * some, whole, rtol=1e-4, atol=1e-7)


def test_all_of_it_is_the_gradient_through_the_drawn_mask():
    model = made()
    torch.manual_seed(3)
    scores = model.mask_net((pictures() - model.mean) / model.std)
    drawn = upsample(masked_student._concrete(scores, 0.5)[:, 0], SIZE)
    # In eval mode no picture feels another, and only the second third of the answers is given under drawn masks.
    loss = F.cross_entropy(model.student(model.apply_mask(pictures(), drawn)).logits, torch.tensor([0, 1, 2, 0])) / 3
    expected = torch.autograd.grad(loss, list(model.mask_net.parameters()))
    for one, other in zip(grown(1.0), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("part", ["scores", "shown", "rest"])
@pytest.mark.parametrize("samples", [1, 3])
def test_what_the_teacher_is_asked_about_reaches_the_explainer_and_not_the_student(part, samples):
    model = made()
    seen = model(pictures(), drawing=MaskSampling(0.5, samples, 0.0))
    learnt = torch.autograd.grad(getattr(seen.mask_samples, part).square().sum(), list(model.mask_net.parameters()),
                                 retain_graph=True)
    assert all(one.isfinite().all() and one.abs().max() > 0 for one in learnt)
    others = list(model.student.parameters())
    assert set(torch.autograd.grad(getattr(seen.mask_samples, part).sum(), others, allow_unused=True)) == {None}


@pytest.mark.parametrize("count", [1, 4, 5])
@pytest.mark.parametrize("samples", [1, 3])
def test_each_picture_is_asked_about_once_and_rows_are_of_the_picture_that_they_should_be(monkeypatch, count, samples):
    monkeypatch.setattr(masked_student, "_blocks", lambda scores: torch.full_like(scores, 0.5))
    model, images = scored(made(), 200.0), pictures(count)
    with torch.no_grad():
        seen = model(images, drawing=MaskSampling(0.5, samples, 0.0))
        own = model.student(images).logits
    half = (count + 1) // 2
    assert torch.equal(seen.mask_samples.shown, images[:half].repeat(samples, 1, 1, 1))
    assert torch.equal(seen.mask_samples.rest, model.mean_image.expand(half * samples, -1, -1, -1))
    torch.testing.assert_close(seen.mask_samples.answers[:samples * count], own.repeat(samples, 1))
    assert len(seen.mask_samples.answers) == (samples + 1) * count


def test_what_is_left_and_what_is_taken_are_two_parts_of_one_picture():
    """The middle picture of an odd batch is in both."""
    model, images = made(), pictures(1)
    with torch.no_grad():
        drawn = model(images, drawing=DRAWING).mask_samples
    torch.testing.assert_close(drawn.shown + drawn.rest, images + model.mean_image)


def test_drawn_masks_grow_sharper_as_they_cool():
    def between(temperature: float) -> float:
        torch.manual_seed(0)
        drawn = masked_student._concrete(torch.zeros(50, 1, 24, 24), temperature)
        return float(((drawn > 0) & (drawn < 1)).float().mean())

    shares = [between(temperature) for temperature in (1.0, 0.3, 0.05)]
    assert shares[0] > 0.6 > shares[1] > 0.1 > shares[2]


def test_a_drawn_place_is_shown_as_often_as_its_log_odds_say():
    torch.manual_seed(0)
    for score in (-2.0, 0.0, 2.0):
        drawn = masked_student._concrete(torch.full((2000, 1, 8, 8), score), 0.05)
        often = (drawn > 0.5).float().mean(dim=(0, 1))
        assert (often - torch.tensor(score).sigmoid()).abs().max() < 0.05


@pytest.mark.parametrize("side", [14, 17, 48, 112])
def test_masks_are_drawn_in_blocks_whose_edges_lie_elsewhere_each_time(side):
    """A place's neighbour shares its draw but where a block ends, and no two pictures share one."""
    torch.manual_seed(0)
    edges = set()
    for _ in range(100):
        drawn = masked_student._blocks(torch.zeros(3, 1, side, side))
        assert drawn.shape == (3, 1, side, side)
        step = drawn.diff(dim=2) != 0
        rows = step[0, 0].any(dim=1).nonzero()[:, 0]
        assert len(rows) <= masked_student.BLOCKS
        assert (rows.diff() == -(-side // masked_student.BLOCKS)).all()
        edges.add(int(rows[0]))
        assert not torch.equal(drawn[0], drawn[1])
    assert len(edges) == -(-side // masked_student.BLOCKS)


def test_batch_norm_takes_one_batch_of_all_masks():
    """And leaves as running statistics those of this batch; the explainer's are of the whole pictures."""
    model, images = made().train(), pictures()
    rows = []
    model.student.layers[0].register_forward_pre_hook(lambda _, given: rows.append(given[0].detach()))
    model(images, drawing=MaskSampling(0.5, 2, 0.0))
    assert [len(one) for one in rows] == [4 * (1 + 2 + 1)]
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


def test_it_can_be_exported_for_batches_of_any_size():
    student, images = made("plain"), pictures(5)
    sizes = ({0: torch.export.Dim("batch", min=1, max=64)}, None, None, None)
    exported = torch.export.export(student, (pictures(2), False, False, None), dynamic_shapes=sizes)
    with torch.no_grad():
        seen, found = student(images), exported.module()(images, False, False, None)
    torch.testing.assert_close(found.logits, seen.logits)
    torch.testing.assert_close(found.mask, seen.mask)
