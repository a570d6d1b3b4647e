"""What one model asks of the machine in a step."""

from dataclasses import replace

import pytest
import torch

from kd.experiments.step_benchmark import StepConfig, benchmark_step
from kd.methods import build
from kd.models import build_untrained
from kd.observation import MaskSampling
from kd.spec import RunSpec

PLAIN = RunSpec(model="plain", depth=2, width=4, image_size=32)
EXPLAINED = replace(PLAIN, mask_net_depth=1, mask_net_width=4)
FROZEN = StepConfig(frozen=True)


def asking(samples: int) -> StepConfig:
    method = build("medtex", {"samples": samples})
    return StepConfig(method.forward_kwargs(1.0)["drawing"], method.live_queries)


def test_a_larger_picture_keeps_more_for_the_backward_pass():
    small, large = benchmark_step(PLAIN, 3), benchmark_step(replace(PLAIN, image_size=64), 3)
    assert large.activation_bytes == pytest.approx(4 * small.activation_bytes, rel=0.2)
    assert small.parameters == large.parameters == sum(p.numel() for p in build_untrained(PLAIN, 3).parameters())


@pytest.mark.parametrize(("spec", "use"), [(PLAIN, StepConfig()), (PLAIN, FROZEN), (EXPLAINED, asking(1))])
def test_the_trial_leaves_random_numbers_and_threads_as_they_were(spec, use):
    benchmark_step.cache_clear()
    torch.manual_seed(3)
    torch.set_num_threads(3)
    state = torch.get_rng_state()
    benchmark_step(spec, 3, use)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 3


def test_a_student_that_draws_asks_about_its_pictures_once_a_mask():
    assert benchmark_step(PLAIN, 3).asked == benchmark_step(EXPLAINED, 3).asked == 0
    once, often = benchmark_step(EXPLAINED, 3, asking(1)), benchmark_step(EXPLAINED, 3, asking(4))
    assert often.asked == pytest.approx(4 * once.asked)
    assert 0 < once.asked <= 2
    assert often.activation_bytes > once.activation_bytes > benchmark_step(EXPLAINED, 3).activation_bytes


def test_a_teacher_that_is_asked_is_differentiated_no_further_than_its_pictures():
    asked, learning = benchmark_step(PLAIN, 3, FROZEN), benchmark_step(PLAIN, 3)
    assert 0 < asked.activation_bytes <= learning.activation_bytes
    assert asked.forward > 0


def test_a_step_on_features_leaves_the_frozen_stages_to_a_pass_of_their_own():
    frozen = RunSpec(model="test_resnet", image_size=64, frozen_stages=3)
    whole, later = benchmark_step(frozen, 3), benchmark_step(frozen, 3, StepConfig(features=True))
    assert whole.features == 0 < later.features
    assert later.activation_bytes < benchmark_step(replace(frozen, frozen_stages=0), 3).activation_bytes
    assert later.parameters == whole.parameters


def test_uses_can_be_looked_up():
    assert hash(StepConfig(MaskSampling(0.3, 1, 0.0), ("shown",))) == hash(
        StepConfig(MaskSampling(0.3, 1, 0.0), ("shown",))
    )
