"""A classifier that can be watched: pixels in, logits and stage maps out."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kd.observation import Observation


@dataclass(frozen=True)
class Stage:
    """One stage: its name in the model, its channels, and how many times smaller than the picture it is."""

    name: str
    channels: int
    reduction: int


class Classifier(nn.Module):
    """Base of every model: takes RGB [B, 3, S, S] in 0..1, normalises for itself, returns an Observation.

    Subclasses give `stages`, `extract` and `head`; `head(extract(x)[-1])` are the logits, so an explainer can take the
    gradient from the last stage on without a hook. `extract` keeps no state on the module: two threads may share one
    eval-mode model.
    """

    mean: Tensor
    std: Tensor
    stages: tuple[Stage, ...]

    def __init__(self, mean: tuple[float, ...] = (0.5, 0.5, 0.5), std: tuple[float, ...] = (0.5, 0.5, 0.5)) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def extract(self, normalised: Tensor) -> tuple[Tensor, ...]:
        """The feature maps of all stages [B, C_i, H_i, W_i] of a normalised image."""
        raise NotImplementedError(f"{type(self).__name__} must define extract")

    def head(self, features: Tensor) -> Tensor:
        """Logits [B, K] from the last stage's features."""
        raise NotImplementedError(f"{type(self).__name__} must define head")

    def resume(self, images: Tensor, stage: int, features: Tensor) -> Tensor:
        """Logits [B, K] for RGB images [B, 3, S, S] in 0..1 when `stage`, counted from 0, gives `features`
        [B, C, H, W] in place of its own; `features` may be written into. At the last stage that is the head alone."""
        if stage == len(self.stages) - 1:
            return self.head(features)
        return self.head(self.extract_after((images - self.mean) / self.std, stage, features))

    def extract_after(self, normalised: Tensor, stage: int, features: Tensor) -> Tensor:
        """The last stage's maps when an earlier `stage` gives `features`; see `resume`."""
        raise NotImplementedError(f"{type(self).__name__} must define extract_after")

    @property
    def linear(self) -> nn.Linear | None:
        """The final layer where the head is exactly global average pooling + this layer, else None.

        There Grad-CAM has a closed form: `Σ_c w_kc·F_c / (h·w)`, every class from one forward.
        """
        return None

    def forward(self, images: Tensor) -> Observation:
        features = self.extract((images - self.mean) / self.std)
        return Observation(self.head(features[-1]), features)
