"""Batches whose rows come one after the other."""

import numpy as np
import torch

from kd.training.batches import Batch
from kd.training.teacher.pending import PendingBatch


def test_rows_are_filled_in_where_they_are_missing_for_each_network():
    batch = Batch(torch.zeros(4, 3, 2, 2), torch.zeros(4), np.arange(4), np.zeros(4, np.int64))
    one = PendingBatch(batch, np.arange(4), {"logits": torch.zeros(4, 2), "stage:0": torch.zeros(4, 2, 2, 3).half()},
                       [[0, 3], [1]])
    assert one.is_missing
    rows = torch.arange(4.0).reshape(2, 2)
    one.take([3, 1], {"logits": rows, "stage:0": torch.ones(2, 2, 2, 3).half()})
    assert one.missing == [[0], []]
    one.take([0], {"logits": rows[:1], "stage:0": torch.ones(1, 2, 2, 3).half()})
    assert not one.is_missing
    found = one.outputs()
    assert found["logits"].tolist() == [[0, 1], [2, 3], [0, 0], [0, 1]]
    assert found["stage:0"].shape == (4, 3, 2, 2)
    assert found["stage:0"].sum((1, 2, 3)).tolist() == [12, 12, 0, 12]
