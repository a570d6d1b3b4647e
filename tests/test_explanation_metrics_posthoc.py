"""Post-hoc agreement on made-up teachers, of which it is known what they look at."""

import json

import numpy as np
import pytest
import torch

from kd.datasets.tensors import to_tensor
from kd.errors import Stopped
from kd.explanation_metrics import posthoc as module
from kd.explanation_metrics.posthoc import CENTRE, FILL, MASK, RANDOM, SOFT, PostHoc, cut, posthoc, student_correct
from kd.models.base import Classifier, Stage
from kd.models.masked_student import MaskedStudent, UNet
from kd.observation import Observation
from kd.placement import Placement

SIDE, COUNT = 32, 20
HERE = (slice(4, 12), slice(4, 12))  # a sixteenth of the picture


class Watcher(Classifier):
    """Looks at one square of the picture only: is it bright?"""

    stages = (Stage("none", 3, 1),)

    def forward(self, images, cams=False, stages=True, drawing=None):
        seen = images[:, :, *HERE].mean(dim=(1, 2, 3))
        return Observation(torch.stack([seen, 0.7 - seen], dim=1), ())


class Blind(Watcher):
    """Answers the same to everything."""

    def forward(self, images, cams=False, stages=True, drawing=None):
        return Observation(torch.tensor([[1.0, 0.0]]).expand(len(images), -1), ())


class Shows(MaskedStudent):
    """An explained student whose mask is given, the same for every picture."""

    def __init__(self, mask, fill="mean"):
        super().__init__(Watcher(), UNet(1, 4), fill, SIDE)
        self.given = mask
        self.set_mean_image(torch.zeros(3, SIDE, SIDE))  # dark

    def predict_mask(self, images):
        return self.given.expand(len(images), -1, -1)


def pictures(bright=True):
    """Dark noise; with a bright square where the watcher looks, or a dark one beside bright noise."""
    low, high = (0, 60) if bright else (150, 255)
    drawn = np.random.default_rng(0).integers(low, high, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    drawn[:, *HERE] = 250 if bright else 0
    return drawn


def square(value=1.0):
    mask = torch.zeros(SIDE, SIDE)
    mask[HERE] = value
    return mask


def elsewhere():
    return 1 - torch.nn.functional.max_pool2d(square()[None], 9, 1, 4)[0]


def judge(mask, maps=None, teacher=None, **changes):
    return posthoc(teacher or Watcher(), Shows(mask), pictures(), maps or {}, **changes)


def test_a_mask_of_ones_keeps_every_decision_and_leaves_that_on_the_fill():
    found = judge(torch.ones(SIDE, SIDE))
    assert found.area == pytest.approx(np.ones(COUNT))
    assert all(kept.all() for kept in found.same_on_mask.values())
    # on darkness the watcher answers the other class
    assert not any(left.any() for left in found.same_off_mask.values())
    dark = posthoc(Watcher(), Shows(torch.ones(SIDE, SIDE)), pictures(bright=False), {})
    assert all(left.all() for left in dark.same_off_mask.values())


def test_a_mask_of_zeros_shows_the_fill_only():
    found = judge(torch.zeros(SIDE, SIDE))
    assert not any(kept.any() for kept in found.same_on_mask.values())
    assert all(left.all() for left in found.same_off_mask.values())
    assert found.area.max() == 0


def test_nothing_can_change_the_mind_of_a_blind_teacher():
    said = judge(square(), {"grad-cam": random_maps()}, teacher=Blind()).to_json()
    for one in said["maps"].values():
        assert one["kept"]["mean"] == one["left"]["mean"] == 1
        assert all(over[score]["mean"] == 0 for over in one["over"].values() for score in ("kept", "left"))


def test_the_mask_of_what_the_teacher_looks_at_is_perfect_and_better_than_random_and_a_map_beside_it():
    beside = np.broadcast_to(elsewhere().numpy(), (COUNT, SIDE, SIDE))
    found = judge(square(), {"grad-cam": beside})
    for name in (SOFT, MASK):
        assert found.same_on_mask[name].all() and not found.same_off_mask[name].any()
    assert not found.same_on_mask["grad-cam"].any() and found.same_off_mask["grad-cam"].all()
    said = found.to_json()
    assert said["area"]["mean"] == pytest.approx(1 / 16)
    for other in (RANDOM, "grad-cam", CENTRE):
        for score in ("kept", "left"):
            assert said["maps"][MASK]["over"][other][score]["low"] > 0, (other, score)
    assert said["maps"]["grad-cam"]["over"][RANDOM]["kept"]["mean"] <= 0
    assert list(said["maps"]["grad-cam"]["over"]) == [RANDOM]
    assert said["maps"][RANDOM]["over"] == {}
    assert said["maps"][SOFT]["over"] == {}, "a random mask of 0 and 1 is no chance level for a soft one"
    assert [one["of"] for one in said["maps"].values()] == ["student", "student", "teacher", "", ""]
    json.dumps(said, allow_nan=False)


def test_a_map_marks_where_its_cells_lie():
    """A map that lies a quarter of the side off marks what the teacher looks at once it is placed."""
    off = np.roll(np.broadcast_to(square().numpy(), (COUNT, SIDE, SIDE)), (8, 8), axis=(1, 2))
    laid = Placement((0.5 / SIDE - 8 / SIDE,) * 2, (1 / SIDE,) * 2)
    assert not judge(square(), {"grad-cam": off}).same_on_mask["grad-cam"].any()
    assert judge(square(), {"grad-cam": off}, placements={"grad-cam": laid}).same_on_mask["grad-cam"].all()


def test_a_map_that_says_nothing_is_as_good_as_random():
    found = judge(square(), {"grad-cam": np.zeros((COUNT, 3, 3), np.float32)})
    assert np.array_equal(found.same_on_mask["grad-cam"], found.same_on_mask[RANDOM])
    assert np.array_equal(found.same_off_mask["grad-cam"], found.same_off_mask[RANDOM])


def test_the_soft_mask_is_shown_as_it_is():
    found = judge(square(0.3))
    assert not found.same_on_mask[SOFT].any()  # too dark to be bright: the cut mask shows a third of the square in full
    assert found.area == pytest.approx(np.full(COUNT, 0.3 / 16))


def test_of_a_mask_with_an_area_nothing_is_soft():
    student = Shows(square())
    student.area = 1 / 16
    found = posthoc(Watcher(), student, pictures(), {})
    assert SOFT not in found.same_on_mask and found.same_on_mask[MASK].all()
    assert set(found.to_json()["maps"]) == {MASK, CENTRE, RANDOM}


def test_a_student_that_reads_a_dimmed_image_is_found_out_by_its_cut_mask_and_one_that_reads_the_fill_by_that():
    """The watcher behind the mask finds the square brighter than .35 of white, the truth."""
    dimmed = student_correct(Shows(square(0.6) + 0.4 * elsewhere()), pictures(), np.zeros(COUNT, np.int64))
    assert set(dimmed) == {SOFT, MASK, FILL}
    assert dimmed[SOFT].all() and not dimmed[FILL].any()
    spread = student_correct(Shows(0.4 * square() + 0.6 * elsewhere()), pictures(), np.zeros(COUNT, np.int64))
    assert spread[SOFT].all() and not spread[MASK].any(), "cut to its area it shows other places"
    blurred = student_correct(Shows(elsewhere(), fill="blur"), pictures(), np.zeros(COUNT, np.int64))
    assert blurred[FILL].all()


def test_the_students_own_fill_hides():
    seen = []

    class Notes(Watcher):
        def forward(self, images, cams=False, stages=True, drawing=None):
            seen.append(images)
            return super().forward(images)

    student = Shows(square(), fill="blur")
    posthoc(Notes(), student, pictures()[:2], {})
    batch = to_tensor(pictures()[:2])
    assert torch.equal(seen[0], batch)
    assert torch.equal(seen[1], student.apply_mask(batch, student.predict_mask(batch)))
    assert torch.equal(seen[2], student.apply_mask(batch, 1 - student.predict_mask(batch)))


def random_maps(count=COUNT, cells=7, seed=3):
    return np.random.default_rng(seed).random((count, cells, cells)).astype(np.float32)


@pytest.mark.parametrize("cells", [1, 3, 7, SIDE])
def test_every_map_shows_the_same_area_to_the_pixel(cells):
    area = torch.tensor([0.0, 0.013, 0.25, 0.5, 1.0])
    for maps in (random_maps(5, cells), random_maps(5, cells).round(), np.zeros((5, cells, cells), np.float32)):
        shown = cut(torch.from_numpy(maps), area, torch.from_numpy(random_maps(5)), SIDE)
        assert shown.unique().tolist() == [0, 1]
        assert shown.sum(dim=(1, 2)).tolist() == (area * SIDE**2).round().tolist()


def test_the_brightest_part_is_shown_and_nothing_dimmer():
    maps = torch.from_numpy(random_maps(4, SIDE))
    shown = cut(maps, torch.full((4,), 0.2), torch.from_numpy(random_maps(4)), SIDE).bool()
    for one, mask in zip(maps, shown, strict=True):
        assert one[mask].min() > one[~mask].max()


def test_where_a_map_is_level_no_side_is_preferred():
    level = torch.zeros(400, 3, 3)
    shown = cut(level, torch.full((400,), 0.3), torch.from_numpy(random_maps(400)), SIDE).mean(dim=0)
    half = SIDE // 2
    for one, other in ((shown[:half], shown[half:]), (shown[:, :half], shown[:, half:])):
        assert float(one.mean() - other.mean()) == pytest.approx(0, abs=0.03)


def test_a_result_does_not_hang_on_the_batches_and_is_seeded(monkeypatch):
    maps = {"grad-cam": random_maps()}
    half = torch.ones(SIDE, SIDE)
    half[SIDE // 2:] = 0
    whole, again, other = judge(half, maps), judge(half, maps), judge(half, maps, seed=1)
    monkeypatch.setattr(module, "BATCH", 3)
    parts = judge(half, maps)
    assert 0 < whole.same_on_mask[RANDOM].sum() < COUNT
    for name, flags in whole.arrays().items():
        assert np.array_equal(flags, again.arrays()[name]), name
        assert np.array_equal(flags, parts.arrays()[name]), name
    assert not np.array_equal(whole.same_on_mask[RANDOM], other.same_on_mask[RANDOM])


def test_differences_are_paired_and_people_are_drawn_whole():
    flags = np.arange(COUNT) % 2 == 0
    found = PostHoc({SOFT: flags, MASK: flags, RANDOM: ~flags}, {SOFT: ~flags, MASK: ~flags, RANDOM: ~flags},
                    np.full(COUNT, 0.1))
    over = found.to_json()["maps"][MASK]["over"][RANDOM]
    assert over["kept"]["mean"] == pytest.approx(0)
    assert over["left"]["mean"] == 0
    assert over["left"]["low"] == -over["left"]["high"] < 0  # that no image differs is not known of others
    alone = found.to_json()["maps"][MASK]["kept"]
    people = found.to_json([f"{flag}{number % 3}" for number, flag in enumerate(flags)])["maps"][MASK]["kept"]
    assert people["high"] - people["low"] > 1.3 * (alone["high"] - alone["low"])
    assert alone["low"] > 0.2 and alone["high"] < 0.8


def test_progress_rises_and_may_stop_it(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 5)
    told = []
    judge(square(), progress=told.append)
    assert told == [0, 0.25, 0.5, 0.75]

    def stop(share):
        if share > 0.3:
            raise Stopped

    with pytest.raises(Stopped):
        judge(square(), progress=stop)
