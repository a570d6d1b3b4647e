import json

import numpy as np
import pytest
import torch

from kd.datasets.tensors import to_tensor
from kd.errors import Stopped
from kd.explanation_metrics.faithfulness import LESS_IS_MORE, SCORES, STEPS, centred_maps, faithfulness, summary
from kd.metrics.bootstrap import random_maps
from kd.models.base import Classifier
from kd.observation import Observation
from kd.placement import Placement

SIDE, COUNT = 32, 7


class Watcher(Classifier):
    """Answers by the brightness of one square of the picture only."""

    def __init__(self, sharp: float) -> None:
        super().__init__()
        self.sharp = sharp

    def forward(self, images: torch.Tensor, stages: bool = False) -> Observation:
        seen = images[:, :, 4:12, 4:12].mean(dim=(1, 2, 3))
        return Observation(torch.stack([self.sharp * (seen - 0.6), torch.zeros_like(seen)], dim=1), ())


def pictures():
    """Dark noise with a bright square where the watcher looks."""
    drawn = np.random.default_rng(0).integers(0, 60, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    drawn[:, 4:12, 4:12] = 250
    return drawn


def square(value=1.0):
    maps = np.zeros((COUNT, 8, 8), np.float32)
    maps[:, 1:3, 1:3] = value
    return maps


def judge(maps, sharp=12.0, blank=None):
    return faithfulness(Watcher(sharp), pictures(), np.zeros(COUNT, np.int64), maps, blank)


def test_everything_is_flat_for_a_constant_model():
    found = judge(random_maps(COUNT), sharp=0.0)
    assert np.allclose(found.insertion_curve, 0.5) and np.allclose(found.deletion_curve, 0.5)
    assert found.insertion == pytest.approx(np.full(COUNT, 0.5))
    assert found.road == pytest.approx(np.zeros(COUNT))
    assert found.drop.max() == 0 and found.increase.max() == 0


def test_the_true_map_beats_chance_and_the_opposite_map_loses():
    true, chance, worst = judge(square()), judge(random_maps(COUNT)), judge(1 - square())
    for score in ("insertion", "deletion", "road"):
        assert (true.over(chance, score) > 0.02).all(), score
        assert (worst.over(chance, score) < 0).mean() > 0.8, score
    assert (true.drop < chance.drop).all()
    assert true.increase.sum() == 0


def test_maps_are_judged_where_their_cells_lie():
    """The same cells, half of one too far to the lower right, and laid where the watcher looks."""
    maps = np.roll(square(), (1, 1), axis=(1, 2))
    laid = Placement((-0.5 / 8, -0.5 / 8), (1 / 8, 1 / 8))
    numbers = np.zeros(COUNT, np.int64)
    off, placed = (faithfulness(Watcher(12.0), pictures(), numbers, maps, placement=one) for one in (None, laid))
    for score in ("insertion", "deletion", "road"):
        assert (placed.over(off, score) > 0).all(), score
        assert getattr(placed, score) == pytest.approx(getattr(judge(square()), score), abs=0.02), score


def test_curves_begin_and_end_where_they_must():
    images = to_tensor(pictures())
    whole = torch.softmax(Watcher(12.0)(images).logits, dim=1)[:, 0].numpy()
    found = judge(square())
    assert found.insertion_curve.shape == (COUNT, STEPS + 1)
    assert found.insertion_curve[:, -1] == pytest.approx(whole)
    assert found.deletion_curve[:, 0] == pytest.approx(whole)
    assert found.deletion_curve[:, -1] == pytest.approx(1 / (1 + np.exp(12 * 0.1)))
    # the square is a sixteenth of the picture: at the first step it is back, or gone
    assert (found.insertion_curve[:, 1] > 0.9 * whole).all()
    assert (found.deletion_curve[:, 1] < 0.5).all()
    assert found.insertion == pytest.approx(np.trapezoid(found.insertion_curve, dx=1 / STEPS))


def test_drop_and_increase_by_hand():
    found = judge(np.full((COUNT, 4, 4), 0.5, np.float32))
    seen = 250 / 255
    whole, dimmed = (1 / (1 + np.exp(-12 * (value - 0.6))) for value in (seen, seen / 2))
    assert found.drop == pytest.approx(np.full(COUNT, 1 - dimmed / whole), abs=1e-4)
    darker = judge(np.full((COUNT, 4, 4), 0.5, np.float32), sharp=-12.0)
    assert darker.increase.min() == 1 and darker.drop.max() == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the package asks numpy things that torch refuses soon
def test_road_is_that_of_pytorch_grad_cam():
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    maps = np.random.default_rng(2).random((1, SIDE, SIDE), dtype=np.float32)
    model, image = Watcher(12.0), to_tensor(pictures()[:1])
    found = faithfulness(model, pictures()[:1], np.zeros(1, np.int64), maps)
    gaps = []
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        count = round(share * SIDE**2)
        order = maps[0].ravel().argsort()
        scores = []
        for gone in (order[-count:], order[:count]):
            keep = torch.ones(SIDE**2)
            keep[torch.from_numpy(gone.copy())] = 0
            filled = NoisyLinearImputer(noise=0)(image[0].contiguous(), keep.view(SIDE, SIDE))
            scores.append(float(torch.softmax(model(filled[None]).logits, dim=1)[0, 0]))
        gaps.append((scores[1] - scores[0]) / 2)
    assert found.road[0] == pytest.approx(np.mean(gaps), abs=5e-3)


def test_images_do_not_meet():
    whole, alone = judge(random_maps(COUNT)), faithfulness(
        Watcher(12.0), pictures()[:2], np.zeros(2, np.int64), random_maps(COUNT)[:2])
    for score in SCORES:
        assert getattr(whole, score)[:2] == pytest.approx(getattr(alone, score), abs=1e-5), score


def test_plateaus_do_not_prefer_the_top_of_the_picture():
    flat = judge(np.zeros((COUNT, 8, 8), np.float32))
    top = np.linspace(1, 0, 8, dtype=np.float32)[None, :, None] * np.ones((COUNT, 1, 8), np.float32)
    assert abs(flat.road.mean()) < abs(judge(top).road.mean()) / 2


def test_the_summary_counts_blanks_and_is_finite():
    blank = np.arange(COUNT) < 2
    found = judge(square(), blank=blank)
    said = summary(found, {"random": judge(random_maps(COUNT)), "centre": judge(centred_maps(COUNT, 32))})
    json.dumps(said, allow_nan=False)
    assert (said["images"], said["blank"]) == (COUNT, 2)
    for score in SCORES:
        one = said["scores"][score]
        assert one["value"]["n"] == COUNT - 2
        sign = -1 if score in LESS_IS_MORE else 1
        assert one["over_random"]["mean"] == pytest.approx(sign * (one["value"]["mean"] - one["random"]))
    assert said["scores"]["insertion"]["over_random"]["low"] > 0
    assert len(said["curves"]["deletion"]["centre"]) == len(said["curves"]["share"]) == STEPS + 1
    nothing = summary(judge(square(), blank=np.ones(COUNT, bool)), {"random": found})
    json.dumps(nothing, allow_nan=False)
    assert nothing["scores"]["road"]["value"]["mean"] is None


def test_it_stops_between_batches():
    def stop(share: float) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        faithfulness(Watcher(1.0), pictures(), np.zeros(COUNT, np.int64), square(), progress=stop)
