from itertools import combinations
from math import comb

import pytest
import torch
from small_models import EVERY, TARGETS, Deep, made, pictures

from kd.explainers import EXPLAINERS, perturbation
from kd.explainers.base import mean_colour
from kd.explainers.perturbation import KernelShap, superpixels


def logits_of(model, images):
    with torch.no_grad():
        return model(images).logits


def test_occlusion_is_the_mean_fall_over_the_windows_that_hold_a_pixel():
    model, image = made(Deep), pictures(1, side=28)
    falls, counts = torch.zeros(5, 28, 28), torch.zeros(28, 28)
    whole, empty = logits_of(model, image)[0], mean_colour(image[0])
    for top in range(0, 25, 2):
        for left in range(0, 25, 2):
            window = torch.zeros(28, 28, dtype=torch.bool)
            window[top:top + 4, left:left + 4] = True
            fall = whole - logits_of(model, torch.where(window, empty, image))[0]
            falls += fall[:, None, None] * window
            counts += window
    found = EXPLAINERS["occlusion"](model, image, EVERY[:1]).values[0]
    torch.testing.assert_close(found, falls / counts, rtol=1e-3, atol=1e-5)


def test_occlusion_finds_the_only_place_that_matters():
    model, images = made(Deep), torch.full((1, 3, 32, 32), 0.5)
    images[0, :, 8:12, 20:24] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    heat = EXPLAINERS["occlusion"](model, images, TARGETS[:1]).values[0].abs()
    row, column = divmod(int(heat.argmax()), 32)
    assert abs(row - 10) <= 4 and abs(column - 22) <= 4


def shapley(value, players):
    """Exact Shapley values of `players` players; value: of a set of them."""
    found = []
    for one in range(players):
        rest = [other for other in range(players) if other != one]
        found.append(sum((value({*group, one}) - value(set(group))) / (players * comb(players - 1, size))
                         for size in range(players) for group in combinations(rest, size)))
    return torch.stack(found)


def test_kernel_shap_approaches_the_exact_shapley_values(monkeypatch):
    model, image = made(Deep), pictures(1)
    rows = torch.arange(32) // 16
    patches = (rows[:, None] * 2 + rows).long()  # four quarters
    monkeypatch.setattr(perturbation, "superpixels", lambda _: patches)
    empty = mean_colour(image[0])

    def value(group):
        kept = torch.isin(patches, torch.tensor(sorted(group), dtype=torch.long))
        return logits_of(model, torch.where(kept, image[0], empty)[None])[0]

    exact = shapley(value, 4)
    found = KernelShap(samples=400)(model, image, EVERY[:1]).values[0]
    seen = torch.stack([found[:, patches == number][:, 0] for number in range(4)])
    assert (seen - exact).abs().max() <= 0.1 * exact.abs().max()


def test_every_pixel_has_its_superpixels_value_and_all_sum_to_what_the_picture_adds():
    model, image = made(Deep), pictures(1)
    image = torch.nn.functional.interpolate(image[:, :, :4, :4], (32, 32))
    patches = superpixels(image[0])
    found = EXPLAINERS["kernel-shap"](model, image, EVERY[:1]).values[0]
    values = [found[:, patches == number] for number in patches.unique()]
    assert all(torch.equal(one.amin(dim=1), one.amax(dim=1)) for one in values)
    total = torch.stack([one[:, 0] for one in values]).sum(dim=0)
    added = logits_of(model, image)[0] - logits_of(model, mean_colour(image[0])[None])[0]
    torch.testing.assert_close(total, added, rtol=0.01, atol=0.001)


@pytest.mark.parametrize("name", ["occlusion", "kernel-shap"])
def test_an_empty_picture_has_a_blank_map(name):
    images = torch.full((1, 3, 32, 32), 0.3)
    assert EXPLAINERS[name](made(Deep), images, TARGETS[:1]).blank.all()
