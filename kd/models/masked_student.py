"""A student behind a mask network: a U-Net predicts a mask, and the student sees the image under that mask."""

from contextlib import nullcontext
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

# Louizos 2018, arXiv 1712.01312: a concrete variable is stretched to (LOW, HIGH) and cut to 0..1, so that a place can
# be hidden or shown entirely. A student can read the whole image through a mask that is only nearly 0.
LOW, HIGH = -0.1, 1.1
BLOCKS = 8  # per side, of the noise that masks are sampled with
RANDOM_GRID = 8  # a random mask is smooth noise of so many units per side, cut where it shows a random share

MOST_CHANNELS = 64
GAIN = 8.0  # of the log-odds: AdamW's steps are as large as its learning rate, too small for them in a short training
OPEN = 1.0  # initial log-odds: more is shown than hidden, and every place still undecided
BOUND = 4.0  # of the log-odds: a mask that is entirely open or closed would get no gradient


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
        assert self.score.bias is not None
        nn.init.zeros_(self.score.weight)
        nn.init.constant_(self.score.bias, OPEN / GAIN)

    def forward(self, normalised: Tensor) -> Tensor:
        skips = [self.stem(normalised)]
        for layer in self.down:
            skips.append(layer(skips[-1]))
        features = skips.pop()
        for layer in reversed(self.up):
            fine = skips.pop()
            raised = F.interpolate(features, fine.shape[-2:], mode="nearest")
            features = layer(torch.cat([raised, fine], dim=1))
        return BOUND * torch.tanh(GAIN / BOUND * self.score(features))


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class MaskedStudent(Classifier):
    """A mask network in front of any classifier, which sees `x̃ = m⊙x + (1−m)⊙b` (MED-TEX, Nguyen-Duc 2022).

    m, the mask [B, S, S] in 0..1, is part of every observation: one forward pass gives label and mask. It is the mean
    mask; with a `MaskSampling`, as in training, masks are sampled as well (`kd.observation.MaskSamples`). fill: b is
    the mean image of the data set (`set_mean_image`) or the blurred image itself. Stages, classes, scaling and input
    size are the student's; the two networks share no weights. Masks are laid over the image as it is given; only what a
    network reads is downsampled to the input size: the image, by the mask network, and the masked one, by the student.
    """

    def __init__(self, student: Classifier, mask_net: UNet, fill: str, image_size: int) -> None:
        super().__init__()
        self.mean, self.std, self.input_size = student.mean, student.std, student.input_size
        self.student, self.mask_net, self.fill = student, mask_net, fill
        self.stages = student.stages
        self.register_load_state_dict_pre_hook(_rename_keys)
        self.register_buffer("mean_image", torch.full((3, image_size, image_size), 0.5))

    mean_image: Tensor
    has_mask = True

    def set_mean_image(self, mean_image: Tensor) -> None:
        """Set the mean image [3, S, S] in 0..1 of the training images, for the fill."""
        self.mean_image.copy_(mean_image)

    def predict_mask(self, images: Tensor) -> Tensor:
        return self._mean_mask(self.mask_net(self.student.prepare(images)), images)

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
        """As a classifier's. drawing: how to sample masks; None samples none."""
        images = _exact(images)  # Fabric passes them in half precision, and the fill is in single precision
        scores = self.mask_net(self.student.prepare(images))
        mask = self._mean_mask(scores, images)
        if drawing is None:
            return self.student(self.apply_mask(images, mask), cams, stages)._replace(mask=mask)
        return self._drawn(images, scores, mask, drawing, cams, stages)

    def _drawn(self, images: Tensor, scores: Tensor, mask: Tensor, drawing: MaskSampling, cams: bool,
               stages: bool) -> Observation:
        count = len(images)
        drawn = _concrete(scores.repeat(drawing.samples, 1, 1, 1), drawing.temperature)[:, 0]
        drawn = upsample(drawn, images.shape[-1])
        shared = drawn.detach() + drawing.joint * (drawn - drawn.detach())
        # One batch, so that batch norm's statistics are those that, as running ones, the mean mask is later used with;
        # a separate pass for each kind of mask would normalise each differently.
        masks = torch.cat([mask.detach(), shared, random_masks(count, images)])
        behind = self._fill(images)
        seen = self.student(_laid(masks, images, behind), cams, stages)
        # One teacher query per image, because they are expensive; batches are shuffled, so every image gets both.
        first, second = slice((count + 1) // 2), slice(count // 2, None)
        by_copy = drawn.view(drawing.samples, count, *drawn.shape[1:])
        shown = _laid(by_copy[:, first].flatten(0, 1), images[first], behind[first])
        rest = _laid(1 - by_copy[:, second].flatten(0, 1), images[second], behind[second])
        own = Observation(seen.logits[:count], tuple(maps[:count] for maps in seen.stages),
                          None if seen.cams is None else seen.cams[:count])
        return own._replace(mask=mask, mask_samples=MaskSamples(scores[:, 0], shown, rest, seen.logits[count:]))

    def _fill(self, images: Tensor) -> Tensor:
        """Fill b, which replaces hidden pixels, for each image."""
        if self.fill == "mean":
            return self._mean_image_at(images.shape[-1]).expand_as(images)
        # In half precision it would differ between training and inference.
        with nullcontext() if images.is_meta else torch.autocast(images.device.type, enabled=False):
            return blur(images)

    def _mean_image_at(self, side: int) -> Tensor:
        if side == self.mean_image.shape[-1]:
            return self.mean_image[None]
        return upsample(self.mean_image[None], side)

    @staticmethod
    def _mean_mask(scores: Tensor, images: Tensor) -> Tensor:
        return upsample(_stretched(_exact(scores).sigmoid())[:, 0], images.shape[-1])


def _rename_keys(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Pre-hook of loading a state dict: gives keys of earlier versions their current names."""
    own = {key.removeprefix(prefix): state.pop(key) for key in list(state) if key.startswith(prefix)}
    state.update({prefix + key: value for key, value in current_weights(own).items()})


def random_masks(count: int, like: Tensor) -> Tensor:
    """Random masks [count, S, S] of 0 and 1 for images of this size: smooth blobs, each with a share of the image drawn
    uniformly from 0..1."""
    heat = upsample(torch.rand(count, RANDOM_GRID, RANDOM_GRID, device=like.device), like.shape[-1])
    share = torch.rand(count, 1, device=like.device)
    ranked = heat.flatten(1).sort(dim=1).values
    cut = ranked.gather(1, (share * ranked.shape[1]).long().clamp_max(ranked.shape[1] - 1))
    return (heat < cut[:, :, None]).to(like.dtype)


def _concrete(scores: Tensor, temperature: float) -> Tensor:
    """Stretched binary concrete variables for log-odds: differentiable samples of 0 or 1 (Maddison 2017, arXiv
    1611.00712)."""
    scores = _exact(scores)
    noise = _blocks(scores).clamp(1e-6, 1 - 1e-6).logit()
    return _stretched(((scores + noise) / temperature).sigmoid())


def _blocks(like: Tensor) -> Tensor:
    """Block-wise uniform noise in 0..1 [N, 1, h, w], with the block edges at a random offset.

    With noise per place, an undecided mask is full of holes, a texture foreign to the teacher: with a fine-tuned
    MobileNetV2, training then led to masks that show everything. The distribution at each place is the same.
    """
    count, _, height, width = like.shape
    side = -(-max(height, width) // BLOCKS)
    drawn = torch.rand(count, 1, BLOCKS + 1, BLOCKS + 1, device=like.device, dtype=like.dtype)
    top, left = torch.randint(side, (2,)).tolist()
    spread = drawn.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
    return spread[:, :, top:top + height, left:left + width]


def _exact(values: Tensor) -> Tensor:
    """Values in single precision at least: the steps of half precision would show in a mask."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _stretched(values: Tensor) -> Tensor:
    return (values * (HIGH - LOW) + LOW).clamp(0, 1)


def _laid(masks: Tensor, images: Tensor, behind: Tensor) -> Tensor:
    """Images under masks [R·B, S, S], with `behind` where these hide: [R·B, 3, S, S]."""
    copies = masks.shape[0] // images.shape[0]  # `len` would fix the batch of an exported model
    if copies > 1:
        images, behind = images.repeat(copies, 1, 1, 1), behind.repeat(copies, 1, 1, 1)
    return torch.lerp(behind, images, masks[:, None])
