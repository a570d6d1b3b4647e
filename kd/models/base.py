"""Base class of all classifiers: pixels in, logits and stage features out."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from kd.errors import UsageError
from kd.observation import Observation
from kd.torch_utils.resize import downsample


@dataclass(frozen=True)
class Stage:
    """One stage: its name in the model, its channels, and the reduction of its grid against the network's input."""

    name: str
    channels: int
    reduction: int


class Classifier(nn.Module):
    """Base class of all models: takes RGB [B, 3, S, S] in 0..1, prepares it itself, returns an Observation.

    Subclasses define `stages`, `forward_stages` and `forward_head`; `forward_head(forward_stages(prepare(x))[-1])` are
    the logits, so an explainer can take the gradient from the last stage on without a hook. `forward_stages` keeps no
    state on the module: two threads may share one model in eval mode.
    """

    mean: Tensor
    std: Tensor
    stages: tuple[Stage, ...]
    input_size: int = 0  # side in pixels to which larger images are downsampled first; 0: none is
    frozen: tuple[str, ...] = ()  # names of modules that stay in eval mode (`kd.models.frozen`)
    differentiable: ClassVar[bool] = True  # whether there are gradients, and stages whose output can be replaced
    has_mask: ClassVar[bool] = False  # whether a mask network stands in front of it (`kd.models.masked_student`)
    initial_notes: tuple[str, ...] = ()  # sentences on the weights file that it started from
    mirrors: bool = False  # whether its data set is known to allow mirroring (`DatasetInfo.flip`)

    def __init__(self, mean: tuple[float, ...] = (0.5, 0.5, 0.5), std: tuple[float, ...] = (0.5, 0.5, 0.5)) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def prepare(self, images: Tensor) -> Tensor:
        """Images as `forward_stages` takes them, of RGB images [B, 3, S, S] in 0..1: downsampled to `input_size` and
        normalised."""
        seen = downsample(images, self.input_size) if self.input_size else images
        return (seen - self.mean) / self.std

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def forward_stages(self, prepared: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of all stages [B, C_i, H_i, W_i] for prepared images."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_stages")

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits [B, K] from the last stage's features."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_head")

    def forward_from(self, images: Tensor, stage: int, features: Tensor) -> Tensor:
        """Logits [B, K] for RGB images [B, 3, S, S] in 0..1 with the output of `stage`, counted from 0, replaced by
        `features` [B, C, H, W], which may be written into. For the last stage only the head is computed."""
        if stage == len(self.stages) - 1:
            return self.forward_head(features)
        return self.forward_head(self.stages_from(self.prepare(images), stage, features))

    def stages_from(self, prepared: Tensor, stage: int, features: Tensor) -> Tensor:
        """Features of the last stage with the output of an earlier `stage` replaced; see `forward_from`."""
        raise NotImplementedError(f"{type(self).__name__} must define stages_from")

    def features_at(self, images: Tensor, stage: int) -> Tensor:
        """Output of one stage [B, C, H, W], counted from 0, for RGB images in 0..1; what lies behind it is not
        computed."""
        return self.stages_until(self.prepare(images), stage)

    def stages_until(self, prepared: Tensor, stage: int) -> Tensor:
        """See `features_at`; for prepared images."""
        return self.forward_stages(prepared)[stage]

    @property
    def pooled_linear(self) -> nn.Linear | None:
        """The final layer where the head is exactly global average pooling + this layer, else None.

        There Grad-CAM has a closed form: `Σ_c w_kc·F_c / (h·w)`, every class from one forward.
        """
        return None

    @property
    def has_class_maps(self) -> bool:
        """Whether it has class activation maps in closed form."""
        return self.pooled_linear is not None

    @property
    def network(self) -> "Classifier":
        """The torch network that it computes: itself, or of a model that is a file one of the same architecture."""
        return self

    def predict_mask(self, images: Tensor) -> Tensor:
        """Mask [B, S, S] in 0..1 for RGB images [B, 3, S, S] in 0..1: the share of each pixel that the student sees.

        Raises UsageError for a model without a mask network.
        """
        raise UsageError("This model has no mask: only a student that was distilled with a mask network (MED-TEX) has.")

    def mask_map(self, images: Tensor) -> Tensor:
        """Map [B, S, S] in 0..1 that the mask is cut from, for RGB images [B, 3, S, S] in 0..1, with gradient: the odds
        of each place that it is shown, relative to the largest of its image. Of a soft mask, the mask itself.

        Raises UsageError as `predict_mask` does.
        """
        return self.predict_mask(images)

    def class_activation_maps(self, features: Tensor) -> Tensor:
        """Class activation maps [B, K, H, W] of the last stage's features [B, C, H, W], differentiable:
        `CAM_k = Σ_c w_kc·F_c` (Zhou 2016, arXiv 1512.04150).

        A head that is more than pooling and one linear layer has no w_kc; there it is the gradient of the logit with
        respect to the channel's mean, which is equal where both exist (Selvaraju 2017, arXiv 1610.02391).
        """
        if self.pooled_linear is not None:
            return torch.einsum("bchw,kc->bkhw", features, self.pooled_linear.weight)
        return self._gradient_maps(features)

    def _gradient_maps(self, features: Tensor) -> Tensor:
        """`class_activation_maps` by the gradient of each logit, whatever the head is."""
        weights = any(weight.requires_grad for weight in self.parameters())
        graph = torch.is_grad_enabled() and (features.requires_grad or weights)
        with torch.inference_mode(False), torch.enable_grad():
            # Outside of a graph (a teacher's features) only the head is differentiated.
            source = features if features.requires_grad else features.clone().requires_grad_()
            scores = self.forward_head(source.clone()).sum(dim=0)  # the head may work in place
            maps = torch.stack([_weighted(source, score, graph) for score in scores], dim=1)
        return maps if graph else maps.detach()

    def forward(self, images: Tensor, cams: bool = False, stages: bool = True) -> Observation:
        """Observation of RGB images [B, 3, S, S] in 0..1. cams, stages: whether it has class activation maps and the
        stages' features, too."""
        features = self.forward_stages(self.prepare(images))
        return Observation(self.forward_head(features[-1]), features if stages else (),
                           self.class_activation_maps(features[-1]) if cams else None)


def _weighted(features: Tensor, score: Tensor, graph: bool) -> Tensor:
    """`Σ_c w_c·F_c` [B, H, W] with w_c the gradient of `score` summed over the grid, differentiable in a graph."""
    [gradient] = torch.autograd.grad(score, features, create_graph=graph, retain_graph=True)
    return (gradient.sum(dim=(2, 3), keepdim=True) * features).sum(dim=1)
