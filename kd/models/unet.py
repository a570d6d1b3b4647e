"""The explainer of an explained student: a small U-Net that scores every place of a picture."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_CHANNELS = 64
GAIN = 8.0  # AdamW moves a weight by a rate a step, however clear the gradient: slow for log-odds in a short training
OPEN = 1.0  # log-odds with which it begins: more is shown than hidden, and every place still undecided
BOUND = 4.0  # of the log-odds: a mask that is entirely open or shut would feel neither the bottleneck nor the teacher


class UNet(nn.Module):
    """`depth` halvings and as many doublings with skips (Ronneberger 2015, arXiv 1505.04597), at half the picture's
    size: a mask's outline need be no finer, and full resolution is what would cost most.

    depth: 1..5. width: channels at half size, doubled at each halving up to 64. Takes normalised RGB [B, 3, S, S] and
    gives log-odds [B, 1, ⌈S/2⌉, ⌈S/2⌉].
    """

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        channels = [min(width * 2**level, MOST_CHANNELS) for level in range(depth + 1)]
        self.stem = _layer(3, width, stride=2)
        self.down = nn.ModuleList(_layer(fine, coarse, stride=2) for fine, coarse in pairwise(channels))
        self.up = nn.ModuleList(_layer(coarse + fine, fine) for fine, coarse in pairwise(channels))
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


def _layer(before: int, after: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))
