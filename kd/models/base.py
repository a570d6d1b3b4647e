"""A classifier that can be watched: pixels in, logits and stage maps out."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from kd.errors import UsageError
from kd.observation import Observation


@dataclass(frozen=True)
class Stage:
    """One stage: its name in the model, its channels, and how many times smaller than the picture it is."""

    name: str
    channels: int
    reduction: int


class Classifier(nn.Module):
    """Base of every model: takes RGB [B, 3, S, S] in 0..1, normalises for itself, returns an Observation.

    Subclasses give `stages`, `forward_stages` and `forward_head`; `forward_head(forward_stages(x)[-1])` are the logits,
    so an explainer can take the gradient from the last stage on without a hook. `forward_stages` keeps no state on the
    module: two threads may share one eval-mode model.
    """

    mean: Tensor
    std: Tensor
    stages: tuple[Stage, ...]
    has_mask: ClassVar[bool] = False  # whether a mask network stands in front of it (`kd.models.masked_student`)

    def __init__(self, mean: tuple[float, ...] = (0.5, 0.5, 0.5), std: tuple[float, ...] = (0.5, 0.5, 0.5)) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward_stages(self, normalised: Tensor) -> tuple[Tensor, ...]:
        """The feature maps of all stages [B, C_i, H_i, W_i] of a normalised image."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_stages")

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits [B, K] from the last stage's features."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_head")

    def forward_from(self, images: Tensor, stage: int, features: Tensor) -> Tensor:
        """Logits [B, K] for RGB images [B, 3, S, S] in 0..1 when `stage`, counted from 0, gives `features`
        [B, C, H, W] in place of its own; `features` may be written into. At the last stage that is the head alone."""
        if stage == len(self.stages) - 1:
            return self.forward_head(features)
        return self.forward_head(self.stages_from((images - self.mean) / self.std, stage, features))

    def stages_from(self, normalised: Tensor, stage: int, features: Tensor) -> Tensor:
        """The last stage's maps when an earlier `stage` gives `features`; see `forward_from`."""
        raise NotImplementedError(f"{type(self).__name__} must define stages_from")

    @property
    def pooled_linear(self) -> nn.Linear | None:
        """The final layer where the head is exactly global average pooling + this layer, else None.

        There Grad-CAM has a closed form: `Σ_c w_kc·F_c / (h·w)`, every class from one forward.
        """
        return None

    def predict_mask(self, images: Tensor) -> Tensor:
        """How much of each pixel [B, S, S] of RGB images [B, 3, S, S] in 0..1 it is shown, 0..1.

        Raises UsageError for a model without a mask network.
        """
        raise UsageError("This model has no mask: only a student that was distilled with a mask network (MED-TEX) has.")

    def class_activation_maps(self, features: Tensor) -> Tensor:
        """Class activation maps [B, K, H, W] of the last stage's features [B, C, H, W], differentiable in all that they
        depend on: `CAM_k = Σ_c w_kc·F_c` (Zhou 2016, arXiv 1512.04150).

        A head that is more than pooling and one linear layer has no w_kc: there it is the gradient of the logit with
        respect to the channel's mean, which is the same number where both exist (Selvaraju 2017, arXiv 1610.02391).
        """
        if self.pooled_linear is not None:
            return torch.einsum("bchw,kc->bkhw", features, self.pooled_linear.weight)
        return self._gradient_maps(features)

    def _gradient_maps(self, features: Tensor) -> Tensor:
        """`class_activation_maps` by the gradient of each logit, whatever the head is."""
        weights = any(weight.requires_grad for weight in self.parameters())
        graph = torch.is_grad_enabled() and (features.requires_grad or weights)
        with torch.inference_mode(False), torch.enable_grad():
            # Outside of a graph (a teacher's features) the head is still differentiated, and nothing behind it.
            source = features if features.requires_grad else features.clone().requires_grad_()
            scores = self.forward_head(source.clone()).sum(dim=0)  # the head may write into what it is given
            maps = torch.stack([_weighted(source, score, graph) for score in scores], dim=1)
        return maps if graph else maps.detach()

    def forward(self, images: Tensor, cams: bool = False, stages: bool = True) -> Observation:
        """images: RGB [B, 3, S, S] in 0..1. cams, stages: whether the observation shall have class activation maps,
        and the stages' features, too."""
        features = self.forward_stages((images - self.mean) / self.std)
        return Observation(self.forward_head(features[-1]), features if stages else (),
                           self.class_activation_maps(features[-1]) if cams else None)


def _weighted(features: Tensor, score: Tensor, graph: bool) -> Tensor:
    """`Σ_c w_c·F_c` [B, H, W] with w_c the gradient of `score` summed over the grid, differentiable in a graph."""
    [gradient] = torch.autograd.grad(score, features, create_graph=graph, retain_graph=True)
    return (gradient.sum(dim=(2, 3), keepdim=True) * features).sum(dim=1)
