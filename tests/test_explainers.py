"""Every registered explainer, held to the same promises."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from small_models import (
    CLASSES,
    EVERY,
    SIDE,
    TARGETS,
    Constant,
    Deep,
    Small,
    assert_same,
    blind,
    explained,
    made,
    pictures,
    portrait,
    quick,
)

from kd.errors import UsageError
from kd.explainers import EXPLAINERS, ExplainerInfo, Maps, scale


@pytest.fixture
def images():
    return pictures()


@pytest.fixture(params=list(EXPLAINERS))
def explainer(request):
    return quick(EXPLAINERS[request.param])


def asked(explainer, kind=Small):
    """A model of this kind that the explainer can be asked about: the mask is there for explained students only."""
    return made(partial(explained, kind) if explainer is EXPLAINERS["mask"] else kind)


def assert_alike(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To rounding, which batches of other sizes do differently; a wrong row or class is off by a map's own size."""
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("kind", [Small, Deep])
class TestEveryExplainer:
    def test_gives_finite_maps_at_every_stages_own_grid(self, explainer, kind, images):
        model = asked(explainer, kind)
        for stage, grid in enumerate((16, 8, 4)):
            maps = explainer(model, images, TARGETS, stage)
            side = grid if explainer.info.grid == "stage" else SIDE
            assert maps.values.shape == (4, side, side)
            assert maps.signed == explainer.info.signed
            assert maps.signed or explainer is EXPLAINERS["stage-maps"] or maps.values.amin() >= 0
            assert maps.values.dtype == torch.float32
            assert torch.isfinite(maps.values).all()
            assert not maps.values.requires_grad
            assert maps.scaled().amin() >= 0
            assert maps.scaled().amax() <= 1

    def test_a_batch_equals_one_by_one_and_all_stages_equal_one_by_one(self, explainer, kind, images):
        model = asked(explainer, kind)
        together = explainer.at_stages(model, images, TARGETS, (0, 1, -1))
        for stage, maps in zip((0, 1, -1), together, strict=True):
            alone = torch.cat([explainer(model, images[n:n + 1], TARGETS[n:n + 1], stage).values for n in range(4)])
            assert_alike(maps.values, alone)

    def test_several_targets_equal_each_alone(self, explainer, kind, images):
        model = asked(explainer, kind)
        for stage in (0, -1):
            every = explainer(model, images[:2], EVERY[:2], stage)
            assert every.blank.shape == (2, CLASSES)
            for number in range(CLASSES):
                alone = explainer(model, images[:2], EVERY[:2, number], stage)
                assert_alike(every.values[:, number], alone.values)

    def test_is_class_specific_exactly_when_it_says_so(self, explainer, kind, images):
        maps = explainer(asked(explainer, kind), images[:2], EVERY[:2]).values
        differ = (maps - maps[:, :1]).abs().max() > 1e-6
        assert bool(differ) == explainer.info.class_specific

    @pytest.mark.parametrize("trainable", [True, False])
    def test_leaves_the_model_as_it_was(self, explainer, kind, images, trainable):
        model = asked(explainer, kind).requires_grad_(trainable)
        before = portrait(model)
        for stage in (0, -1):
            explainer(model, images, TARGETS, stage)
        assert_same(portrait(model), before)
        assert not images.requires_grad

    def test_leaves_the_model_as_it_was_after_an_error(self, explainer, kind, images):
        model = asked(explainer, kind)
        before = portrait(model)
        for bad in (images[:, :1, :0], torch.full_like(images, 0.5)[:, :2]):
            with pytest.raises((RuntimeError, IndexError, ValueError, AssertionError)):
                explainer(model, bad, TARGETS, 0)
        if explainer.info.class_specific:
            for stage in (0, -1):
                with pytest.raises((RuntimeError, IndexError, AssertionError)):
                    explainer(model, images, TARGETS + CLASSES, stage)
        assert_same(portrait(model), before)
        assert torch.is_grad_enabled()

    def test_works_where_the_caller_turned_gradients_off(self, explainer, kind, images):
        model = asked(explainer, kind)
        for stage in (0, -1):
            expected = explainer(model, images, TARGETS, stage).values
            with torch.no_grad():
                assert torch.equal(explainer(model, images, TARGETS, stage).values, expected)
                assert not torch.is_grad_enabled()

    def test_many_threads_may_share_one_model(self, explainer, kind, images):
        model = asked(explainer, kind)
        work = [(n % 4, n % 3) for n in range(40 if explainer.info.cost == "instant" else 10)]

        def one(job):
            image, stage = job
            return explainer(model, images[image:image + 1], TARGETS[image:image + 1], stage).values

        expected = [one(job) for job in work]
        with ThreadPoolExecutor(8) as threads:
            for mine, alone in zip(threads.map(one, work), expected, strict=True):
                assert torch.equal(mine, alone)

    def test_refuses_a_model_in_training_mode_before_it_changes_its_statistics(self, explainer, kind, images):
        model = asked(explainer, kind).train()
        before = portrait(model)
        with pytest.raises(ValueError, match="eval mode"):
            explainer(model, images, TARGETS)
        assert_same(portrait(model), before)


def test_facts_say_what_one_sees(explainer):
    facts = explainer.info
    assert facts.title
    assert "arXiv" in facts.paper
    assert facts.reading_note.endswith(".")
    for name, kind in get_type_hints(ExplainerInfo).items():
        assert get_origin(kind) is not Literal or getattr(facts, name) in get_args(kind)
    assert explainer.__doc__


def test_an_unknown_stage_is_named_with_the_way_out(explainer, images):
    with pytest.raises(UsageError, match=r"no stage 3: .* 0 to 2"):
        explainer(asked(explainer), images, TARGETS, 3)
    with pytest.raises(UsageError, match="no stage 'last'"):
        explainer(asked(explainer), images, TARGETS, "last")
    with pytest.raises(UsageError, match="no stage -4"):
        explainer(asked(explainer), images, TARGETS, -4)


def test_stage_maps_are_channel_averages(images):
    model = made()
    with torch.no_grad():
        stages = model(images).stages
    for stage, maps in zip(stages, EXPLAINERS["stage-maps"].at_stages(model, images, TARGETS, range(3)), strict=True):
        assert torch.equal(maps.values, stage.mean(dim=1))


def test_a_model_that_looks_nowhere_gives_blank_maps(explainer, images):
    model = made(blind if explainer is EXPLAINERS["mask"] else Constant)
    for stage in range(3):
        maps = explainer(model, images, TARGETS, stage)
        assert maps.blank.all()
        assert (maps.scaled() == (0.5 if maps.signed else 0.0)).all()


def test_the_same_question_has_the_same_answer_and_moves_no_generator(explainer, images):
    model = asked(explainer, Deep)
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = explainer(model, images, TARGETS, 1).values
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    torch.manual_seed(4)
    np.random.seed(4)
    assert torch.equal(explainer(model, images, TARGETS, 1).values, first)


def test_progress_rises_to_the_end_and_may_stop_it(explainer, images):
    model, told = asked(explainer, Deep), []
    explainer(model, images, TARGETS, 0, told.append)
    assert told == sorted(told) and told[-1] == 1.0 and told[0] >= 0
    if explainer.info.cost != "instant":
        assert len(told) > 4, "a slow one says how far it is"
        assert 0 < told[len(told) // 2] < 1

    class Enough(Exception):
        pass

    def stop(share):
        raise Enough

    before = portrait(model)
    with pytest.raises(Enough):
        explainer(model, images, TARGETS, 0, stop)
    assert_same(portrait(model), before)


def test_a_model_that_answers_nan_gives_blank_maps(explainer, images):
    """Where the class is asked about; a diverged model's features may still be finite."""
    model = asked(explainer)
    model.pooled_linear.weight.data.fill_(float("nan"))
    assert explainer(model, images, TARGETS).blank.all() or not explainer.info.class_specific
    for weight in model.parameters():
        weight.data.fill_(float("nan"))
    assert explainer(model, images, TARGETS).blank.all()


def test_what_does_not_lie_on_a_stage_is_the_same_at_every_stage(explainer, images):
    if explainer.info.grid == "stage":
        grids = {maps.values.shape for maps in explainer.at_stages(asked(explainer), images, TARGETS, range(3))}
        assert len(grids) == 3
    else:
        first, last = explainer.at_stages(asked(explainer), images, TARGETS, (0, -1))
        assert torch.equal(first.values, last.values)


def test_scaling_spans_0_to_1_once_and_leaves_blank_maps_blank():
    values = torch.stack([torch.arange(4.0).view(2, 2) - 7, torch.full((2, 2), 3.0), torch.zeros(2, 2),
                          torch.full((2, 2), float("nan")), torch.tensor([[1.0, 1.0], [1.0, 1.0 + 5e-7]])])
    maps = Maps(values)
    assert maps.blank.tolist() == [False, True, True, True, True]
    assert torch.equal(maps.scaled()[0], torch.arange(4.0).view(2, 2) / 3)
    assert not maps.scaled()[1:].any()
    signed = Maps(values, signed=True)
    torch.testing.assert_close(signed.scaled()[0] * 14, values[0] + 7)
    assert (signed.scaled()[1:] == 0.5).all()
    assert torch.equal(scale(maps.scaled()), maps.scaled())
    absolute = Maps(maps.scaled() * 0.5 + 0.2, absolute=True)
    assert torch.equal(absolute.scaled()[0], absolute.values[0])
    assert not absolute.scaled()[1:].any()
    assert not Maps(values[0] * 1e-20).blank.any(), "a faint map is no blank one"


def test_a_map_with_an_infinite_value_is_blank():
    values = torch.rand(1, 3, 3)
    values[0, 0, 0] = np.inf
    assert Maps(values).blank.all()
    assert not Maps(values).scaled().any()
