"""One heat map of one image: its values, how it is labelled, and where its cells lie."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.inspection import figure
from kd.placement import Placement


@dataclass(frozen=True, eq=False)
class HeatMap:
    """One heat map: raw values and values in 0..1, both float32 [H, W] at its own grid.

    stage, name: of the stage that it explains. signed: 0 is 0.5 in `scaled`, and values below are evidence against the
    class. lies_on: the grid of that stage, or the image or its superpixels; then the stage is ignored. placement: of
    its cells in the image; None where the grid is stretched over it.
    """

    stage: int
    name: str
    values: NDArray[np.float32]
    scaled: NDArray[np.float32]
    blank: bool
    signed: bool = False
    lies_on: str = "stage"
    placement: Placement | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def laid(self) -> Placement:
        """Placement of the cells, also of a grid that is stretched over the image."""
        return self.placement or Placement.even(self.shape)

    @property
    def grid(self) -> str:
        return f"{self.shape[0]}×{self.shape[1]}"

    @property
    def place(self) -> str:
        """`Stage 5`, or what else the map lies on."""
        names = {"stage": f"stage {self.stage + 1}", "picture": "image"}
        return names.get(self.lies_on, self.lies_on)

    @property
    def label(self) -> str:
        return f"{self.place} · {self.grid}"

    def arrays(self) -> dict[str, NDArray]:
        """The raw map by its key, and `<key>_placement` [2, 2]: the centre of its first cell (down, across) and the
        distance of its cells, as shares of the image's side."""
        laid = self.laid
        return {self.key: self.values, f"{self.key}_placement": np.array([laid.first, laid.step])}

    def tile(self, label: str = "") -> figure.HeatmapTile:
        """The map in a figure. label: other than its own."""
        return figure.HeatmapTile(label or self.label, self.scaled, self.blank, self.signed, self.placement)

    @property
    def key(self) -> str:
        """Name of the map in files."""
        return f"layer{self.stage + 1:02d}" if self.lies_on == "stage" else self.lies_on

    def to_json(self) -> dict[str, Any]:
        """Facts only; the values are in the npz file. offset: how far (down, across) the map would lie too far to the
        lower right if it were stretched over the image, as a share of the side."""
        laid = self.laid
        finite = bool(np.isfinite(self.values).all())
        place = {"stage": self.stage, "name": self.name} if self.lies_on == "stage" else {"lies_on": self.lies_on}
        return {**place, "grid": list(self.shape), "placement": laid.to_json(), "offset": list(laid.offset(self.shape)),
                "signed": self.signed, "blank": self.blank,
                "low": float(self.values.min()) if finite else None,
                "high": float(self.values.max()) if finite else None}
