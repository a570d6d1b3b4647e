"""Does a teacher decide the same when it is shown only what a map marks, and when it is shown only the rest?

Post-hoc agreement, as MED-TEX (Nguyen-Duc 2022, arXiv 2008.02593) and L2X (Chen 2018, arXiv 1802.07814) have it. Every
map marks the same share of a picture: that of the student's mask there; a random mask of that size is the chance level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets.tensors import to_tensor
from kd.metrics.bootstrap import GAP_SPAN, SHARE_SPAN, bootstrap_ci, centre_gaussian, random_maps
from kd.models.base import Classifier
from kd.models.masked_student import MaskedStudent
from kd.progress import ShareCallback, no_share
from kd.torch_utils.resize import upsample

BATCH = 16
SOFT, MASK, CENTRE, RANDOM = "mask-soft", "mask", "centre", "random"
OWN = (SOFT, MASK)  # of the student

Maps = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PostHoc:
    """kept, left: by map, whether the teacher gives its own answer to the marked part, and to the rest [N]. area: share
    of each picture that is marked [N].

    The maps: SOFT, the student's mask as the student sees it; MASK, cut to its own area, and so is every other; the
    teacher's, by their explainers' names; CENTRE, a disc in the middle; RANDOM, smooth blobs.
    """

    same_on_mask: dict[str, Flags]
    same_off_mask: dict[str, Flags]
    area: NDArray[np.float64]

    def to_json(self, groups: Sequence[str] | None = None) -> dict[str, Any]:
        """Means with bootstrap intervals. over: how much better than another map of the same pictures it is, positive
        is better for both: every map than the random one, the student's mask, cut, than every other. A soft mask has
        none: it shows a little of every place, so a mask of 0 and 1 that shows as much is no chance level for it."""
        return {"images": len(self.area), "area": bootstrap_ci(self.area, groups, span=SHARE_SPAN).to_json(),
                "maps": {name: self._map(name, groups) for name in self.same_on_mask}}

    def _map(self, name: str, groups: Sequence[str] | None) -> dict[str, Any]:
        others = [other for other in self.same_on_mask if other not in OWN] if name == MASK else \
            [RANDOM] * (name not in (SOFT, RANDOM))
        return {"of": "student" if name in OWN else "" if name in (CENTRE, RANDOM) else "teacher",
                "kept": bootstrap_ci(self.same_on_mask[name].astype(float), groups, span=SHARE_SPAN).to_json(),
                "left": bootstrap_ci(self.same_off_mask[name].astype(float), groups, span=SHARE_SPAN).to_json(),
                "over": {other: {"kept": self._better(self.same_on_mask, name, other, groups),
                                 "left": self._better(self.same_off_mask, other, name, groups)} for other in others}}

    @staticmethod
    def _better(flags: dict[str, Flags], name: str, other: str, groups: Sequence[str] | None) -> dict[str, Any]:
        return bootstrap_ci(flags[name].astype(float) - flags[other], groups, span=GAP_SPAN).to_json()

    def arrays(self) -> dict[str, Any]:
        """Per image, for an npz file: `<map>_kept`, `<map>_left` and `shown`."""
        return {**{f"{name}_kept": flags for name, flags in self.same_on_mask.items()},
                **{f"{name}_left": flags for name, flags in self.same_off_mask.items()}, "shown": self.area}


def posthoc(teacher: Classifier, student: MaskedStudent, images: NDArray[np.uint8], maps: Mapping[str, Maps],
            seed: int = 0, progress: ShareCallback = no_share) -> PostHoc:
    """Show the teacher parts of the pictures [N, S, S, 3], filled as the student's are.

    maps: of the teacher [N, h, w], brighter where they mark first; its own names are those of `PostHoc`. progress: may
    raise to stop.
    """
    noise = random_maps(len(images), seed)
    kept: dict[str, list[Tensor]] = {name: [] for name in (*OWN, *maps, CENTRE, RANDOM)}
    left: dict[str, list[Tensor]] = {name: [] for name in kept}
    area: list[Tensor] = []
    for start in range(0, len(images), BATCH):
        progress(start / len(images))
        part = slice(start, start + BATCH)
        batch = to_tensor(images[part], student.mean.device)
        own = _answers(teacher, batch)
        masks = _masks(student, batch, {name: one[part] for name, one in maps.items()}, noise[part])
        for name, mask in masks.items():
            kept[name].append(_answers(teacher, student.apply_mask(batch, mask)) == own)
            left[name].append(_answers(teacher, student.apply_mask(batch, 1 - mask)) == own)
        area.append(_area(masks[SOFT]))
    return PostHoc(_joined(kept), _joined(left), torch.cat(area).cpu().numpy())


def _masks(student: MaskedStudent, batch: Tensor, maps: Mapping[str, Maps], noise: Maps) -> dict[str, Tensor]:
    """By name what is shown of a batch [B, S, S]."""
    with torch.no_grad():
        soft = student.predict_mask(batch)
    side, ties = soft.shape[-1], torch.from_numpy(noise).to(soft)
    middle = torch.from_numpy(centre_gaussian(side, side)).to(soft).expand_as(soft)
    theirs = {name: torch.from_numpy(np.array(one, np.float32)).to(soft) for name, one in maps.items()}
    heat = {MASK: soft, **theirs, CENTRE: middle, RANDOM: ties}
    return {SOFT: soft, **{name: cut(one, _area(soft), ties, side) for name, one in heat.items()}}


def cut(maps: Tensor, area: Tensor, ties: Tensor, side: int) -> Tensor:
    """Masks [N, side, side] of 0 and 1 that show the brightest share `area` [N] of each map [N, h, w], raised to the
    picture; exactly that share, to the pixel.

    ties: maps [N, g, g] whose order decides where a map is level, as a ReLU leaves it: by row would prefer the top.
    """
    heat, order = upsample(maps, side).flatten(1), upsample(ties, side).flatten(1)
    by_ties = order.argsort(dim=1, descending=True)
    ranked = by_ties.gather(1, heat.gather(1, by_ties).argsort(dim=1, descending=True, stable=True))
    shown = torch.arange(side**2, device=maps.device) < (area * side**2).round()[:, None]
    return torch.zeros_like(heat).scatter_(1, ranked, shown.to(heat)).view(-1, side, side)


def _area(mask: Tensor) -> Tensor:
    return mask.double().mean(dim=(1, 2))


def _answers(teacher: Classifier, pictures: Tensor) -> Tensor:
    with torch.no_grad():
        return teacher(pictures.to(teacher.mean.device), stages=False).logits.argmax(dim=1).cpu()


def _joined(parts: dict[str, list[Tensor]]) -> dict[str, Flags]:
    return {name: torch.cat(rows).numpy() for name, rows in parts.items()}
