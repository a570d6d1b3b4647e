import json

import numpy as np
import pytest

from kd.inspection.heat_map import HeatMap
from kd.placement import Placement

VALUES = np.arange(9, dtype=np.float32).reshape(3, 3)
SEEN = Placement((0.5 / 96, 0.5 / 96), (1 / 3, 1 / 3))  # the last stage of the default student at 96 px


def heat_map(placement=None):
    return HeatMap(4, "layers.4", VALUES, VALUES / 8, blank=False, placement=placement)


def test_where_it_lies_is_in_its_facts():
    said = json.loads(json.dumps(heat_map(SEEN).to_json()))
    assert Placement.from_json(said["placement"]) == SEEN
    assert np.array(said["offset"]) * 96 == pytest.approx(15.5)
    assert heat_map().to_json()["offset"] == pytest.approx([0, 0])


def test_an_npz_file_has_it_beside_the_values():
    arrays = heat_map(SEEN).arrays()
    assert arrays["layer05"] is VALUES
    assert arrays["layer05_placement"].tolist() == [list(SEEN.first), list(SEEN.step)]


def test_its_tile_is_painted_there():
    tile = heat_map(SEEN).tile("here")
    assert (tile.label, tile.placement) == ("here", SEEN)
    assert tile.heat is heat_map(SEEN).tile().heat or np.array_equal(tile.heat, VALUES / 8)
