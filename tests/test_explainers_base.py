import pytest
import torch
from small_models import made, pictures

from kd.explainers.base import CountedModel, chunks, columns, like, mean_colour, without_noise


def test_it_answers_as_the_model_and_counts_what_it_was_asked():
    model, told = made(), []
    ask = CountedModel(model, told.append, total=6)
    with torch.no_grad():
        assert torch.equal(ask(pictures(4)), model(pictures(4)).logits)
        ask(pictures(4))
    assert told == [4 / 6, 1.0], "never more than the whole, where an estimate was too small"


@pytest.mark.parametrize(("count", "lengths"), [(0, []), (5, [5]), (16, [16]), (35, [16, 16, 3])])
def test_chunks_cover_everything_once(count, lengths):
    parts = list(chunks(count))
    assert [part.stop - part.start for part in parts] == lengths
    assert [n for part in parts for n in range(part.start, part.stop)] == list(range(count))


def test_targets_and_maps_go_together():
    one, several = torch.tensor([1, 2]), torch.tensor([[1, 2], [0, 1]])
    assert columns(one).shape == (2, 1) and columns(several) is several
    maps = torch.rand(2, 1, 4, 4)
    assert like(one, maps).shape == (2, 4, 4) and like(several, maps) is maps


def test_the_mean_colour_fills_the_picture():
    image = pictures(1)[0]
    filled = mean_colour(image)
    assert filled.shape == image.shape
    assert torch.equal(filled[:, 0, 0], filled[:, -1, 5])
    torch.testing.assert_close(filled[:, 0, 0], image.mean(dim=(1, 2)))


def test_rounding_is_not_shown_as_a_map():
    maps = torch.stack([torch.rand(3, 3) * 1e-7, torch.rand(3, 3) * 1e-4])
    kept = without_noise(maps, torch.tensor([[2.0, -3.0]]))
    assert not kept[0].any()
    assert torch.equal(kept[1], maps[1])
