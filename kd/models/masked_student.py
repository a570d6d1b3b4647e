"""A student behind a mask network: a U-Net predicts a mask, and the student sees the image under that mask."""

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd.metrics.inpainting import blur
from kd.models.base import Classifier
from kd.observation import MaskSamples, MaskSampling, Observation
from kd.renamings import current_weights
from kd.torch_utils.resize import upsample

# A soft mask, of the first versions, has log-odds up to BOUND, and is stretched to (LOW, HIGH) and cut to 0..1 (Louizos
# 2018, arXiv 1712.01312).
BOUND, LOW, HIGH = 4.0, -0.1, 1.1

MOST_CHANNELS = 64
GAIN = 8.0  # of the log-odds: AdamW's steps are as large as its learning rate, too small for them in a short training


class UNet(nn.Module):
    """Mask network: `depth` halvings and as many doublings with skips (Ronneberger 2015, arXiv 1505.04597), at half
    the image's size: a mask's outline need be no finer, and full resolution would cost most.

    depth: 1..5. width: channels at half size, doubled at each halving up to 64. Takes normalised RGB [B, 3, S, S] and
    gives log-odds [B, 1, ⌈S/2⌉, ⌈S/2⌉].
    """

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        channels = [min(width * 2**level, MOST_CHANNELS) for level in range(depth + 1)]
        self.stem = _block(3, width, stride=2)
        self.down = nn.ModuleList(_block(fine, coarse, stride=2) for fine, coarse in pairwise(channels))
        self.up = nn.ModuleList(_block(coarse + fine, fine) for fine, coarse in pairwise(channels))
        self.score = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(self.score.weight)  # at first no place ranks above another, and everything is shown

    def forward(self, normalised: Tensor) -> Tensor:
        skips = [self.stem(normalised)]
        for layer in self.down:
            skips.append(layer(skips[-1]))
        features = skips.pop()
        for layer in reversed(self.up):
            fine = skips.pop()
            raised = F.interpolate(features, fine.shape[-2:], mode="nearest")
            features = layer(torch.cat([raised, fine], dim=1))
        with _single_precision(features):  # in half precision many places would be equal, and cannot be ranked
            return GAIN * self.score(_exact(features))


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class MaskedStudent(Classifier):
    """A mask network in front of any classifier, which sees `x̃ = m⊙x + (1−m)⊙b` (MED-TEX, Nguyen-Duc 2022).

    m, the mask [B, S, S], is part of every observation: one forward pass gives label and mask. It is 1 on the share
    `area` of the image with the largest log-odds and 0 elsewhere, so the student cannot read the image through a place
    that is only nearly hidden, and the area is a setting. With area 0, as the first versions trained it, it is the
    sigmoid of the log-odds, of any area. fill: b is the mean image of the data set (`set_mean_image`) or the blurred
    image itself. Stages, classes, scaling and input size are the student's; the two networks share no weights. Masks
    are laid over the image as it is given; only what a network reads is downsampled to the input size: the image, by
    the mask network, and the masked one, by the student.
    """

    def __init__(self, student: Classifier, mask_net: UNet, fill: str, image_size: int, area: float = 0.0) -> None:
        super().__init__()
        self.mean, self.std, self.input_size = student.mean, student.std, student.input_size
        self.student, self.mask_net, self.fill, self.area = student, mask_net, fill, area
        self.stages = student.stages
        self.register_load_state_dict_pre_hook(_rename_keys)
        self.register_buffer("mean_image", torch.full((3, image_size, image_size), 0.5))

    mean_image: Tensor
    has_mask = True

    def set_mean_image(self, mean_image: Tensor) -> None:
        """Set the mean image [3, S, S] in 0..1 of the training images, for the fill."""
        self.mean_image.copy_(mean_image)

    def predict_mask(self, images: Tensor) -> Tensor:
        return self._mask(self._scores(images), images.shape[-1])

    def mask_map(self, images: Tensor) -> Tensor:
        if not self.area:
            return self.predict_mask(images)
        scores = upsample(self._scores(images), images.shape[-1])
        return (scores - scores.amax(dim=(1, 2), keepdim=True)).exp()

    def apply_mask(self, images: Tensor, mask: Tensor) -> Tensor:
        """Images [B, 3, S, S] under masks [R·B, S, S]: [R·B, 3, S, S]."""
        return _laid(mask, images, self._fill(images))

    def prepare(self, images: Tensor) -> Tensor:
        """Images under their masks, prepared for the student."""
        images = _exact(images)
        return self.student.prepare(self.apply_mask(images, self.predict_mask(images)))

    def forward_stages(self, prepared: Tensor) -> tuple[Tensor, ...]:
        return self.student.forward_stages(prepared)

    def stages_from(self, prepared: Tensor, stage: int, features: Tensor) -> Tensor:
        return self.student.stages_from(prepared, stage, features)

    def forward_head(self, features: Tensor) -> Tensor:
        return self.student.forward_head(features)

    @property
    def pooled_linear(self) -> nn.Linear | None:
        return self.student.pooled_linear

    def forward(self, images: Tensor, cams: bool = False, stages: bool = True,
                drawing: MaskSampling | None = None) -> Observation:
        """As a classifier's. drawing: also under masks of random area, as in training; None: only under its own."""
        images = _exact(images)  # Fabric passes them in half precision, and the fill is in single precision
        scores = self._scores(images)
        mask = self._mask(scores, images.shape[-1])
        if drawing is None:
            return self.student(self.apply_mask(images, mask), cams, stages)._replace(mask=mask)
        return self._drawn(images, scores, mask, drawing, cams, stages)

    def _drawn(self, images: Tensor, scores: Tensor, mask: Tensor, drawing: MaskSampling, cams: bool,
               stages: bool) -> Observation:
        count = len(images)
        wider = _enlarged(ranked_mask(scores, self._random_areas(scores, drawing.widest)), images.shape[-1])
        # One batch, so that batch norm's statistics are those that, as running ones, the mask is later used with.
        seen = self.student(self.apply_mask(images, torch.cat([mask, wider])), cams, stages)
        own = Observation(seen.logits[:count], tuple(maps[:count] for maps in seen.stages),
                          None if seen.cams is None else seen.cams[:count])
        return own._replace(mask=mask, mask_samples=MaskSamples(scores, seen.logits[count:]))

    def _random_areas(self, scores: Tensor, widest: float) -> Tensor:
        """Area of each image [B], drawn from `self.area` to `widest`, uniformly in its logarithm."""
        drawn = torch.rand(len(scores), device=scores.device, dtype=scores.dtype)
        return self.area * (max(widest, self.area) / self.area) ** drawn

    def _scores(self, images: Tensor) -> Tensor:
        """Log-odds [B, h, w], in single precision at least: equal ones could not be ranked."""
        return _exact(self.mask_net(self.student.prepare(images)))[:, 0]

    def _mask(self, scores: Tensor, side: int) -> Tensor:
        if self.area:
            return _enlarged(ranked_mask(scores, scores.new_full((scores.shape[0],), self.area)), side)
        shown = (BOUND * torch.tanh(scores / BOUND)).sigmoid()
        return upsample((shown * (HIGH - LOW) + LOW).clamp(0, 1), side)

    def _fill(self, images: Tensor) -> Tensor:
        """Fill b, which replaces hidden pixels, for each image."""
        if self.fill == "mean":
            return self._mean_image_at(images.shape[-1]).expand_as(images)
        with _single_precision(images):  # in half precision it would differ between training and inference
            return blur(images)

    def _mean_image_at(self, side: int) -> Tensor:
        if side == self.mean_image.shape[-1]:
            return self.mean_image[None]
        return upsample(self.mean_image[None], side)


def _rename_keys(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Pre-hook of loading a state dict: gives keys of earlier versions their current names."""
    own = {key.removeprefix(prefix): state.pop(key) for key in list(state) if key.startswith(prefix)}
    state.update({prefix + key: value for key, value in current_weights(own).items()})


def ranked_mask(scores: Tensor, area: Tensor) -> Tensor:
    """Masks [B, h, w] of 0 and 1 that show the share `area` [B] of the places of each image, those with the largest
    scores [B, h, w], without gradient. At least one place is shown, and all that equal the last one."""
    ranked = scores.detach().flatten(1).sort(dim=1, descending=True).values
    last = (area * ranked.shape[1]).round().long().clamp_min(1) - 1
    return (scores.detach() >= ranked.gather(1, last[:, None])[:, :, None]).to(scores.dtype)


def _enlarged(mask: Tensor, side: int) -> Tensor:
    """Masks [B, h, w] of 0 and 1 on the image's grid [B, side, side], with their edges where they were."""
    return F.interpolate(mask[:, None], (side, side), mode="nearest-exact")[:, 0]


def _single_precision(like: Tensor) -> AbstractContextManager[Any]:
    """Context in which nothing is computed in half precision."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def _exact(values: Tensor) -> Tensor:
    """Values in single precision at least: the steps of half precision would show in a mask."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _laid(masks: Tensor, images: Tensor, behind: Tensor) -> Tensor:
    """Images under masks [R·B, S, S], with `behind` where these hide: [R·B, 3, S, S]."""
    copies = masks.shape[0] // images.shape[0]  # `len` would fix the batch of an exported model
    if copies > 1:
        images, behind = images.repeat(copies, 1, 1, 1), behind.repeat(copies, 1, 1, 1)
    return torch.lerp(behind, images, masks[:, None])
