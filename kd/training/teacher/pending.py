"""A batch whose outputs of a network are known in part."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kd.methods import TeacherOutputs
from kd.store.row_files import Index
from kd.training.batches import Batch


@dataclass
class PendingBatch:
    """A batch with its rows [B, …] by output; missing: by network, positions in the batch whose rows are not known
    yet. others: outputs of other networks for it."""

    batch: Batch
    index: Index
    rows: dict[str, Tensor]
    missing: list[list[int]]
    others: TeacherOutputs = field(default_factory=dict)

    @property
    def is_missing(self) -> bool:
        """Whether rows are not known yet."""
        return any(self.missing)

    def take(self, places: list[int], rows: Mapping[str, Tensor]) -> None:
        """Fill in rows [P, …] of these places [P], by output."""
        for name, values in rows.items():
            self.rows[name][places] = values.to(self.rows[name].device)
        filled = set(places)
        self.missing = [[place for place in missing if place not in filled] for missing in self.missing]

    def outputs(self) -> dict[str, Tensor]:
        """Float32 outputs [B, …]; features [B, C, H, W], which are cached in half precision, in channels_last memory.
        """
        return {name: (rows.permute(0, 3, 1, 2) if rows.dtype == torch.float16 else rows).float()
                for name, rows in self.rows.items()}
