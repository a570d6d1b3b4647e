"""A student that explains itself: an explainer lays a mask over the picture, and the student sees what is left."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from kd.imputation import blur
from kd.models.base import Classifier
from kd.models.unet import UNet
from kd.observation import Drawing, Drawn, Observation
from kd.torch_utils.resize import upsample

# Louizos 2018, arXiv 1712.01312: a concrete variable is stretched to (LOW, HIGH) and cut to 0..1, so that a place can
# be hidden or shown entirely. A mask that is only nearly 0 lets a student read the whole picture through it.
LOW, HIGH = -0.1, 1.1
BLOCKS = 8  # per side, of the noise that masks are drawn with
RANDOM_GRID = 8  # a random mask is smooth noise of so many units per side, cut where it shows a random share


class Explained(Classifier):
    """An explainer in front of any classifier, which sees `x̃ = m⊙x + (1−m)⊙b` (MED-TEX, Nguyen-Duc 2022).

    m, the mask [B, S, S] in 0..1, is part of every observation: one forward gives label and mask. It is the mean mask;
    with a `Drawing`, as in training, masks are drawn as well (`kd.observation.Drawn`). fill: what b is, the mean image
    of the data set, which `remember` is told, or the picture itself, blurred. Stages, classes and scaling are the
    student's; the two networks share no weights.
    """

    def __init__(self, student: Classifier, explainer: UNet, fill: str, image_size: int) -> None:
        super().__init__()
        self.mean, self.std = student.mean, student.std
        self.student, self.explainer, self.fill = student, explainer, fill
        self.stages = student.stages
        self.register_buffer("average", torch.full((3, image_size, image_size), 0.5))

    average: Tensor
    explains = True

    def remember(self, average: Tensor) -> None:
        """Take the mean image [3, S, S] in 0..1 of the training pictures for the fill."""
        self.average.copy_(average)

    def mask(self, images: Tensor) -> Tensor:
        return self._mean_mask(self.explainer(self._normalised(images)), images)

    def masked(self, images: Tensor, mask: Tensor) -> Tensor:
        """Pictures [R·B, 3, S, S] of images [B, 3, S, S] under masks [R·B, S, S]."""
        return _laid(mask, images, self._behind(images))

    def extract(self, normalised: Tensor) -> tuple[Tensor, ...]:
        return self.student.extract(self._seen(normalised))

    def extract_after(self, normalised: Tensor, stage: int, features: Tensor) -> Tensor:
        return self.student.extract_after(self._seen(normalised), stage, features)

    def head(self, features: Tensor) -> Tensor:
        return self.student.head(features)

    @property
    def linear(self) -> nn.Linear | None:
        return self.student.linear

    def forward(self, images: Tensor, cams: bool = False, stages: bool = True,
                drawing: Drawing | None = None) -> Observation:
        """As a classifier's. drawing: how to draw masks; None draws none."""
        images = _exact(images)  # Fabric hands them over in half precision, and the fill is in single
        scores = self.explainer(self._normalised(images))
        mask = self._mean_mask(scores, images)
        if drawing is None:
            return self.student(self.masked(images, mask), cams, stages)._replace(mask=mask)
        return self._drawn(images, scores, mask, drawing, cams, stages)

    def _drawn(self, images: Tensor, scores: Tensor, mask: Tensor, drawing: Drawing, cams: bool,
               stages: bool) -> Observation:
        count = len(images)
        drawn = _concrete(scores.repeat(drawing.samples, 1, 1, 1), drawing.temperature)[:, 0]
        drawn = upsample(drawn, images.shape[-1])
        shared = drawn.detach() + drawing.joint * (drawn - drawn.detach())
        # One batch, so that batch norm has the same statistics here and, as running ones, when only the mean mask is
        # left; a pass of its own for each kind of mask would give every kind another normalisation.
        masks = torch.cat([mask.detach(), shared, random_masks(count, images)])
        behind = self._behind(images)
        seen = self.student(_laid(masks, images, behind), cams, stages)
        # One question per picture: the teacher is what costs, and batches are shuffled, so that all get both in turn.
        first, second = slice((count + 1) // 2), slice(count // 2, None)
        by_copy = drawn.view(drawing.samples, count, *drawn.shape[1:])
        shown = _laid(by_copy[:, first].flatten(0, 1), images[first], behind[first])
        rest = _laid(1 - by_copy[:, second].flatten(0, 1), images[second], behind[second])
        own = Observation(seen.logits[:count], tuple(maps[:count] for maps in seen.stages),
                          None if seen.cams is None else seen.cams[:count])
        return own._replace(mask=mask, drawn=Drawn(scores[:, 0], shown, rest, seen.logits[count:]))

    def _normalised(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def _seen(self, normalised: Tensor) -> Tensor:
        """The normalised picture that the student sees of a normalised one."""
        images = normalised * self.std + self.mean
        return self._normalised(self.masked(images, self._mean_mask(self.explainer(normalised), images)))

    def _behind(self, images: Tensor) -> Tensor:
        """What stands where the mask hides: b, for each picture."""
        if self.fill == "mean":
            return self._average_at(images.shape[-1]).expand_as(images)
        # In half precision it would be another picture in training than afterwards.
        with nullcontext() if images.is_meta else torch.autocast(images.device.type, enabled=False):
            return blur(images)

    def _average_at(self, side: int) -> Tensor:
        if side == self.average.shape[-1]:
            return self.average[None]
        return upsample(self.average[None], side)

    @staticmethod
    def _mean_mask(scores: Tensor, images: Tensor) -> Tensor:
        return upsample(_stretched(_exact(scores).sigmoid())[:, 0], images.shape[-1])


def random_masks(count: int, like: Tensor) -> Tensor:
    """Masks [count, S, S] of 0 and 1 for pictures of this size, which know nothing of them: smooth blobs, each mask
    with a share of the picture drawn evenly from 0..1."""
    heat = upsample(torch.rand(count, RANDOM_GRID, RANDOM_GRID, device=like.device), like.shape[-1])
    share = torch.rand(count, 1, device=like.device)
    ranked = heat.flatten(1).sort(dim=1).values
    cut = ranked.gather(1, (share * ranked.shape[1]).long().clamp_max(ranked.shape[1] - 1))
    return (heat < cut[:, :, None]).to(like.dtype)


def _concrete(scores: Tensor, temperature: float) -> Tensor:
    """Stretched binary concrete variables for log-odds: differentiable draws of 0 or 1 (Maddison 2017, arXiv
    1611.00712)."""
    scores = _exact(scores)
    noise = _blocks(scores).clamp(1e-6, 1 - 1e-6).logit()
    return _stretched(((scores + noise) / temperature).sigmoid())


def _blocks(like: Tensor) -> Tensor:
    """Numbers in 0..1 [N, 1, h, w], each drawn for a whole block, whose edges lie elsewhere each time.

    Drawn place by place, a mask that is not yet decided is full of holes, a texture no teacher has seen: with a
    fine-tuned MobileNetV2 the only way out was to show everything. Each place's own distribution is the same.
    """
    count, _, height, width = like.shape
    side = -(-max(height, width) // BLOCKS)
    drawn = torch.rand(count, 1, BLOCKS + 1, BLOCKS + 1, device=like.device, dtype=like.dtype)
    top, left = torch.randint(side, (2,)).tolist()
    spread = drawn.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
    return spread[:, :, top:top + height, left:left + width]


def _exact(values: Tensor) -> Tensor:
    """In single precision at least: the steps of half would show in a mask."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _stretched(values: Tensor) -> Tensor:
    return (values * (HIGH - LOW) + LOW).clamp(0, 1)


def _laid(masks: Tensor, images: Tensor, behind: Tensor) -> Tensor:
    """Pictures [R·B, 3, S, S]: images under masks [R·B, S, S], `behind` where these hide."""
    copies = len(masks) // len(images)
    if copies > 1:
        images, behind = images.repeat(copies, 1, 1, 1), behind.repeat(copies, 1, 1, 1)
    return torch.lerp(behind, images, masks[:, None])
