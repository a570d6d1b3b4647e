"""Does a teacher decide the same when it is shown only what a map marks, and when it is shown only the rest?

Post-hoc agreement, as MED-TEX (Nguyen-Duc 2022, arXiv 2008.02593) and L2X (Chen 2018, arXiv 1802.07814) have it. Every
map marks the same share of a picture: that of the student's mask there; a random mask of that size is the chance level.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kd.batches import to_tensor
from kd.chance import interval
from kd.faithfulness import RANDOM_GRID
from kd.models.base import Classifier
from kd.models.explained import Explained

BATCH = 16
SEEN, RANDOM = "mask as the student sees it", "random"

Maps = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PostHoc:
    """kept, left: by map, whether the teacher gives its own answer to the marked part, and to the rest [N]. area: share
    of each picture that is marked [N]."""

    kept: dict[str, Flags]
    left: dict[str, Flags]
    area: NDArray[np.float64]

    def to_json(self, groups: Sequence[str] | None = None) -> dict[str, Any]:
        """Means with bootstrap intervals; over the random mask as differences of the same pictures (for `left`, how
        much less is left: positive is better for both)."""
        return {"images": len(self.area), "area": interval(self.area, groups).to_json(),
                "maps": {name: self._map(name, groups) for name in self.kept}}

    def _map(self, name: str, groups: Sequence[str] | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for score, flags, sign in (("kept", self.kept, 1), ("left", self.left, -1)):
            own, chance = flags[name].astype(float), flags[RANDOM].astype(float)
            found[score] = interval(own, groups).to_json()
            found[f"{score}_over_random"] = interval(sign * (own - chance), groups).to_json()
        return found


def posthoc(teacher: Classifier, student: Explained, images: NDArray[np.uint8], maps: Mapping[str, Maps], seed: int = 0,
            progress: Callable[[float], None] = lambda share: None) -> PostHoc:
    """Show the teacher parts of the pictures [N, S, S, 3], filled as the student's are.

    maps: by name [N, h, w] in 0..1; the student's mask (`SEEN`, soft as it is) and a random one come on top.
    progress: may raise to stop.
    """
    names = [SEEN, *maps, RANDOM]
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    left: dict[str, list[Tensor]] = {name: [] for name in names}
    area: list[Tensor] = []
    noise = np.random.default_rng((seed, 11)).random((len(images), RANDOM_GRID, RANDOM_GRID), dtype=np.float32)
    for start in range(0, len(images), BATCH):
        progress(start / len(images))
        part = slice(start, start + BATCH)
        batch = to_tensor(images[part], teacher.mean.device)
        with torch.no_grad():
            own = teacher(batch, stages=False).logits.argmax(dim=1)
            mask = student.mask(batch)
        size, side = mask.mean(dim=(1, 2)), mask.shape[-1]
        ties = torch.from_numpy(noise[part]).to(mask)
        shown = {SEEN: mask, **{name: cut(torch.from_numpy(np.array(one[part], np.float32)).to(mask), size, ties, side)
                                for name, one in maps.items()}, RANDOM: cut(ties, size, ties, side)}
        for name, one in shown.items():
            kept[name].append(_answers(teacher, student.masked(batch, one)) == own)
            left[name].append(_answers(teacher, student.masked(batch, 1 - one)) == own)
        area.append(size)
    return PostHoc(_joined(kept), _joined(left), torch.cat(area).double().cpu().numpy())


def cut(maps: Tensor, area: Tensor, ties: Tensor, side: int) -> Tensor:
    """Masks [N, side, side] of 0 and 1 that show the brightest share `area` [N] of each map [N, h, w], raised to the
    picture.

    ties: maps [N, g, g] whose order decides where a map is level, as a ReLU leaves it: by row would prefer the top.
    """
    heat, order = _raised(maps, side), _raised(ties, side)
    rank = (heat + 1e-5 * order).flatten(1).argsort(dim=1, descending=True).argsort(dim=1).view_as(heat)
    return (rank < (area * side**2).round()[:, None, None]).to(maps)


def _raised(maps: Tensor, side: int) -> Tensor:
    return F.interpolate(maps[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]


def _answers(teacher: Classifier, pictures: Tensor) -> Tensor:
    with torch.no_grad():
        return teacher(pictures, stages=False).logits.argmax(dim=1)


def _joined(parts: dict[str, list[Tensor]]) -> dict[str, Flags]:
    return {name: torch.cat(rows).cpu().numpy() for name, rows in parts.items()}
