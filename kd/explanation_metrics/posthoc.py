"""Post-hoc agreement: whether the teacher's prediction stays the same inside and outside of the area a map marks.

As defined by MED-TEX (Nguyen-Duc 2022, arXiv 2008.02593) and L2X (Chen 2018, arXiv 1802.07814). Every map marks the
same share of an image, that of the student's mask there; the baseline is a random mask of that area.
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
from kd.placement import Placement
from kd.progress import ShareCallback, no_share
from kd.torch_utils.resize import upsample

BATCH = 16
SOFT, MASK, CENTRE, RANDOM, FILL = "mask-soft", "mask", "centre", "random", "fill"
OWN = (SOFT, MASK)  # the student's

Maps = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PostHoc:
    """Post-hoc agreement by map. same_on_mask, same_off_mask: whether the teacher's prediction for the marked part, and
    for the rest, is that for the whole image [N]. area: share of each image that is marked [N].

    The maps: MASK, the student's mask, and all others cut to the same area: the teacher's, by their explainers' names;
    CENTRE, a disc in the middle; RANDOM, smooth blobs. SOFT: of a soft mask, as the student sees it.
    """

    same_on_mask: dict[str, Flags]
    same_off_mask: dict[str, Flags]
    area: NDArray[np.float64]

    def to_json(self, groups: Sequence[str] | None = None) -> dict[str, Any]:
        """Means with bootstrap intervals. over: gain over another map of the same images, positive is better for both:
        of every map over the random one, and of the student's binarised mask over every other. A soft mask has none: it
        shows a little of every place, so a binary mask of the same area is no baseline for it."""
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
        """Values per image, for an npz file: `<map>_kept`, `<map>_left` and `shown`."""
        return {**{f"{name}_kept": flags for name, flags in self.same_on_mask.items()},
                **{f"{name}_left": flags for name, flags in self.same_off_mask.items()}, "shown": self.area}


def posthoc(teacher: Classifier, student: MaskedStudent, images: NDArray[np.uint8], maps: Mapping[str, Maps],
            seed: int = 0, progress: ShareCallback = no_share,
            placements: Mapping[str, Placement | None] | None = None) -> PostHoc:
    """Post-hoc agreement of a teacher on images [N, S, S, 3], with hidden parts filled as the student's.

    maps: further maps of the teacher by name [N, h, w], brightest where they mark first. progress: may raise to stop.
    placements: where the cells of those maps lie in the image; None for maps that are stretched over it.
    """
    noise = random_maps(len(images), seed)
    names = (*(OWN if not student.area else (MASK,)), *maps, CENTRE, RANDOM)
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    left: dict[str, list[Tensor]] = {name: [] for name in kept}
    area: list[Tensor] = []
    for start in range(0, len(images), BATCH):
        progress(start / len(images))
        part = slice(start, start + BATCH)
        batch = to_tensor(images[part], student.mean.device)
        own = _answers(teacher, batch)
        masks = _masks(student, batch, {name: one[part] for name, one in maps.items()}, noise[part], placements or {})
        for name, mask in masks.items():
            kept[name].append(_answers(teacher, student.apply_mask(batch, mask)) == own)
            left[name].append(_answers(teacher, student.apply_mask(batch, 1 - mask)) == own)
        area.append(_area(masks.get(SOFT, masks[MASK])))
    return PostHoc(_joined(kept), _joined(left), torch.cat(area).cpu().numpy())


def student_correct(student: MaskedStudent, images: NDArray[np.uint8], labels: NDArray[np.int64],
                    seed: int = 0) -> dict[str, Flags]:
    """Whether a masked student is right on each image [N]: under its MASK, cut to its area so that nothing is seen
    through a place that is only nearly hidden; under a SOFT mask as it is; and by the FILL alone, with all hidden."""
    noise, found = random_maps(len(images), seed), dict[str, list[Tensor]]()
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        batch, truth = to_tensor(images[part], student.mean.device), torch.from_numpy(labels[part])
        masks = {name: mask for name, mask in _masks(student, batch, {}, noise[part], {}).items() if name in OWN}
        for name, mask in {**masks, FILL: torch.zeros_like(masks[MASK])}.items():
            found.setdefault(name, []).append(_answers(student.student, student.apply_mask(batch, mask)) == truth)
    return _joined(found)


def _masks(student: MaskedStudent, batch: Tensor, maps: Mapping[str, Maps], noise: Maps,
           placements: Mapping[str, Placement | None]) -> dict[str, Tensor]:
    """Masks of a batch by name [B, S, S]."""
    with torch.no_grad():
        soft = student.predict_mask(batch)
    side, ties = soft.shape[-1], torch.from_numpy(noise).to(soft)
    middle = torch.from_numpy(centre_gaussian(side, side)).to(soft).expand_as(soft)
    theirs = {name: torch.from_numpy(np.array(one, np.float32)).to(soft) for name, one in maps.items()}
    heat = {MASK: soft, **theirs, CENTRE: middle, RANDOM: ties}
    own = {} if student.area else {SOFT: soft}
    return {**own, **{name: cut(one, _area(soft), ties, side, placements.get(name)) for name, one in heat.items()}}


def cut(maps: Tensor, area: Tensor, ties: Tensor, side: int, placement: Placement | None = None) -> Tensor:
    """Binary masks [N, side, side] of the brightest share `area` [N] of each map [N, h, w], upsampled to the image;
    exactly that share, to the pixel. placement: where the maps' cells lie; None for maps stretched over the image.

    ties: maps [N, g, g] by which equal values are ordered, as those below a ReLU: by row would prefer the top.
    """
    heat, order = upsample(maps, side, placement).flatten(1), upsample(ties, side).flatten(1)
    by_ties = order.argsort(dim=1, descending=True)
    ranked = by_ties.gather(1, heat.gather(1, by_ties).argsort(dim=1, descending=True, stable=True))
    shown = torch.arange(side**2, device=maps.device) < (area * side**2).round()[:, None]
    return torch.zeros_like(heat).scatter_(1, ranked, shown.to(heat)).view(-1, side, side)


def _area(mask: Tensor) -> Tensor:
    return mask.double().mean(dim=(1, 2))


def _answers(teacher: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        return teacher(images.to(teacher.mean.device), stages=False).logits.argmax(dim=1).cpu()


def _joined(parts: dict[str, list[Tensor]]) -> dict[str, Flags]:
    return {name: torch.cat(rows).numpy() for name, rows in parts.items()}
