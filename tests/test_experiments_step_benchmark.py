"""What one model asks of the machine in a step."""

from dataclasses import replace

import pytest
import torch

from kd.experiments.step_benchmark import benchmark_step
from kd.models import build_untrained
from kd.spec import RunSpec

PLAIN = RunSpec(model="plain", depth=2, width=4, image_size=32)
MASKED = replace(PLAIN, mask_net_depth=1, mask_net_width=4, mask_area=0.1)


def test_a_larger_picture_keeps_more_for_the_backward_pass():
    small, large = benchmark_step(PLAIN, 3), benchmark_step(replace(PLAIN, image_size=64), 3)
    assert large.activation_bytes == pytest.approx(4 * small.activation_bytes, rel=0.2)
    assert small.parameters == large.parameters == sum(p.numel() for p in build_untrained(PLAIN, 3).parameters())


@pytest.mark.parametrize("spec", [PLAIN, MASKED])
def test_the_trial_leaves_random_numbers_and_threads_as_they_were(spec):
    benchmark_step.cache_clear()
    torch.manual_seed(3)
    torch.set_num_threads(3)
    state = torch.get_rng_state()
    benchmark_step(spec, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 3


def test_a_masked_student_is_shown_every_image_twice():
    assert benchmark_step(MASKED, 3).activation_bytes > 2 * benchmark_step(PLAIN, 3).activation_bytes


def test_a_step_on_features_leaves_the_frozen_stages_to_a_pass_of_their_own():
    frozen = RunSpec(model="test_resnet", image_size=64, frozen_stages=3)
    whole, later = benchmark_step(frozen, 3), benchmark_step(frozen, 3, frozen=True)
    assert whole.features == 0 < later.features
    assert later.activation_bytes < benchmark_step(replace(frozen, frozen_stages=0), 3).activation_bytes
    assert later.parameters == whole.parameters
