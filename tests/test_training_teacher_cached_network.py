"""Outputs per batch of any network, computed in chunks."""

import threading
import time

import numpy as np
import pytest
import torch
from claimant import Claimant
from lightning_fabric import Fabric
from small import small_data, spec

from kd.store.row_files import RowFormat
from kd.store.runs import Run, Store
from kd.training.batches import Batch, TrainBatches
from kd.training.teacher import cached_network
from kd.training.teacher.cached_network import HALF_MAX, CachedNetwork


class Brightness(CachedNetwork):
    """Mean of each image, and its red channel times so large a number that half precision cannot hold it."""

    event = "brightness"

    def compute(self, images, network):
        assert len(images) == self.chunk
        found = {"mean": images.mean((1, 2, 3))[:, None], "stage:0": images[:, :1] * 1e6}
        return {name: found[name] for name in self.formats}


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


@pytest.fixture
def sharing(monkeypatch):
    """An epoch of 5 batches of 8 and 4 images more, the network's cached outputs of them, and those uncached. Chunks
    are of 4, so that many are ahead."""
    store = Store()
    data = small_data(store.paths)
    index = np.arange(len(data.train))
    batches = TrainBatches(data.train, index, 8, 0, 0, data.info.flip)
    about = {"images": len(index), "size": data.train.images.shape[1], "precision": "32-true"}
    one, plain = (Brightness(Run(store.path / "owner"), about, {"mean": RowFormat((1,))},
                             Fabric(accelerator="cpu", devices=1)) for _ in range(2))
    one.chunk = plain.chunk = 4
    monkeypatch.setattr(cached_network, "LOOKAHEAD", 1)
    one.cache.enable(store, store.create(spec()), about, [index])
    expected = [(batch.numbers, parts["mean"]) for batch, parts in plain.batches(batches, 0)]
    assert (len(expected), len(index)) == (5, 44)
    return one, batches, expected


@pytest.mark.parametrize(("end", "computed"), [("write", 32), ("kill", 44), ("hang", 44)])
def test_rows_that_another_process_computes_are_waited_for_unless_it_ends_or_hangs(sharing, monkeypatch, end, computed):
    one, batches, expected = sharing
    if end == "hang":
        monkeypatch.setattr(cached_network, "PATIENCE", 0.1)
    first, second = expected[:2]
    others = np.concatenate([first[0], second[0][:4]])  # what the first batches need
    rows = torch.cat([first[1], second[1][:4]]).numpy()

    def act():
        while one.computed < 32:  # all that nobody else has claimed is computed while the first batch waits
            time.sleep(0.01)
        getattr(other, end, lambda: None)()

    with Claimant(one.cache.directory, "mean", others, rows) as other:
        then = threading.Thread(target=act)
        then.start()
        found = [(batch.numbers, parts["mean"]) for batch, parts in one.batches(batches, 0)]
        then.join()
    assert one.computed == computed
    assert end != "hang" or one.clock.seconds["waiting"] > 0  # else the end may come before a look for it
    assert len(found) == len(expected)
    for (numbers, values), (same, wanted) in zip(found, expected, strict=True):
        assert numbers.tolist() == same.tolist()
        assert torch.equal(values, wanted)
