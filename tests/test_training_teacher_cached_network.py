"""Outputs per batch of any network, computed in chunks."""

import numpy as np
import torch
from lightning_fabric import Fabric

from kd.store.row_files import RowFormat
from kd.store.runs import Run
from kd.training.batches import Batch
from kd.training.teacher.cached_network import HALF_MAX, CachedNetwork


class Brightness(CachedNetwork):
    """Mean of each image, and its red channel times so large a number that half precision cannot hold it."""

    event = "brightness"

    def compute(self, images, network):
        assert len(images) == self.chunk
        return {"mean": images.mean((1, 2, 3))[:, None], "stage:0": images[:, :1] * 1e6}


def test_a_batch_of_any_size_is_computed_in_full_chunks(tmp_path):
    formats = {"mean": RowFormat((1,)), "stage:0": RowFormat((4, 4, 1), "float16")}
    key = {"images": 70, "size": 4, "precision": "32-true"}
    network = Brightness(Run(tmp_path), key, formats, Fabric(accelerator="cpu", devices=1))
    images = torch.rand(70, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    index = np.arange(70)
    found = network.outputs_of(Batch(images, torch.zeros(70), index, np.zeros_like(index)))
    torch.testing.assert_close(found["mean"][:, 0], images.mean((1, 2, 3)))
    assert found["stage:0"].shape == (70, 1, 4, 4)
    assert found["stage:0"].dtype == torch.float32
    assert found["stage:0"].max() <= HALF_MAX
    assert network.computed == 70
    assert network.usage()["disabled"]
