"""Class activation maps weighted by gradients: Grad-CAM and its family.

Raw maps equal the package grad-cam's (its `get_cam_image` and ReLU) before it scales, upsamples and scales again. Where
a map is painted does not: the package stretches it over the image (see `kd.placement`).
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.explainers.base import Explainer, ExplainerInfo, Maps
from kd.models.base import Classifier
from kd.progress import ShareCallback


class GradientCam(Explainer):
    """Base of explainers that combine a stage's features with the gradient of the class score there.

    A subclass defines `combine` and, where one exists, `closed_form`.
    """

    @abstractmethod
    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        """Raw maps [..., H, W] from features and gradients, both [..., C, H, W]."""

    def closed_form(self, features: Tensor, targets: Tensor, linear: nn.Linear) -> Tensor | None:
        """Raw maps of the last stage in front of global average pooling and `linear`, or None: take the gradient."""
        return None

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        last = len(model.stages) - 1
        if any(stage != last for stage in stages):
            seen = gradients_from_image(model, images, targets, stages)
            return [self.combine(*pair) for pair in seen]
        with torch.no_grad():
            features = model.features_at(images, last)
        return [self._of_last(model, features, targets)] * len(stages)

    def of_features(self, model: Classifier, features: Tensor, targets: Tensor) -> Maps:
        """Maps of the last stage as by a call, from its features [N, C, H, W]: only the head is computed."""
        return Maps(self._of_last(model, features, targets).detach().float(), self.info.signed, self.info.absolute)

    def _of_last(self, model: Classifier, features: Tensor, targets: Tensor) -> Tensor:
        if model.pooled_linear is not None:
            with torch.no_grad():
                maps = self.closed_form(features, targets, model.pooled_linear)
            if maps is not None:
                return maps
        return self.combine(*gradients_of_head(model, features, targets))


def gradients_of_head(model: Classifier, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The last stage's features and the gradient of the targets' logits there: only the head is differentiated.

    features: [N, C, H, W]. Both results are [N, C, H, W], or [N, T, C, H, W] for targets [N, T].
    """
    with torch.enable_grad():
        leaf = features.detach().requires_grad_()
        # A head may work in place, which autograd forbids on a leaf.
        [gradients] = _differentiate(model.forward_head(leaf.clone()), targets, [leaf])
    return _beside(features.detach(), targets), gradients


def gradients_from_image(model: Classifier, images: Tensor, targets: Tensor,
                         stages: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """(features, gradients) of each stage as in `gradients_of_head`, from one forward and one backward.

    The graph begins at the image, so frozen models work; the backward pass ends at the earliest requested stage.
    """
    with torch.enable_grad():
        logits, features, *_ = model(images.detach().requires_grad_())
        chosen = [features[stage] for stage in stages]
        gradients = _differentiate(logits, targets, chosen)
    return [(_beside(one.detach(), targets), gradient) for one, gradient in zip(chosen, gradients, strict=True)]


def _differentiate(logits: Tensor, targets: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of the logits of `targets` with respect to each input; a backward per target column.

    `autograd.grad` with named inputs touches no `.grad`, also where the model's parameters are trainable.
    """
    columns = targets if targets.ndim == 2 else targets[:, None]
    # Images are independent in eval mode, so the gradient of the sum over the batch is each image's own.
    scores = logits.gather(1, columns).sum(dim=0)
    rows = [torch.autograd.grad(score, inputs, retain_graph=number < len(scores) - 1)
            for number, score in enumerate(scores)]
    if targets.ndim == 1:
        return list(rows[0])
    return [torch.stack(row, dim=1) for row in zip(*rows, strict=True)]


def _beside(features: Tensor, targets: Tensor) -> Tensor:
    """Features [N, C, H, W] given the target axis of [N, T] targets, where there is one."""
    return features if targets.ndim == 1 else features[:, None]


class GradCam(GradientCam):
    """`ReLU(Σ_c α_c·F_c)`, where α_c is the gradient of the class logit averaged over the grid (Selvaraju 2017).

    Raw maps are at least 0. In front of average pooling and a linear layer α_c is `w_kc / (h·w)`: every class from one
    forward pass.
    """

    info = ExplainerInfo(
        "Grad-CAM", "Selvaraju 2017, arXiv 1610.02391", True,
        "Bright where the stage's features support the target class; what contradicts it is not shown.",
        early_stages=False)

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        return (gradients.mean(dim=(-2, -1), keepdim=True) * features).sum(dim=-3).relu()

    def closed_form(self, features: Tensor, targets: Tensor, linear: nn.Linear) -> Tensor:
        columns = targets if targets.ndim == 2 else targets[:, None]
        area = features.shape[-2] * features.shape[-1]
        maps = torch.einsum("nchw,ntc->nthw", features, linear.weight[columns]).relu() / area
        return maps if targets.ndim == 2 else maps[:, 0]


    def computable_forward(self, model: Classifier, stages: Sequence[int]) -> bool:
        last = len(model.stages) - 1
        return model.has_class_maps and all(stage == last for stage in stages)

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        if model.differentiable:
            return super()._maps(model, images, targets, stages, progress)
        with torch.no_grad():
            cams = model(images, cams=True, stages=False).cams
        chosen = targets if targets.ndim == 2 else targets[:, None]
        maps = cams[torch.arange(len(cams), device=cams.device)[:, None], chosen].relu() / cams[0, 0].numel()
        return [maps if targets.ndim == 2 else maps[:, 0]] * len(stages)


class GradCamPlusPlus(GradientCam):
    """`ReLU(Σ_c w_c·F_c)`, w_c = Σ_xy a·ReLU(g), a = g² / (2g² + g³·Σ_xy F) (Chattopadhay 2018, eq. 19).

    The gradient g is the logit's, as in the package grad-cam; the paper differentiates the logit's exponential.
    """

    info = ExplainerInfo(
        "Grad-CAM++", "Chattopadhay 2018, arXiv 1710.11063", True,
        "As Grad-CAM, but only positions that support the class weight a channel: several findings all light up.",
        early_stages=False)
    # The package's constant. It affects the map, because squared gradients are often smaller.
    EPSILON = 1e-6

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        square = gradients.square()
        total = features.sum(dim=(-2, -1), keepdim=True)
        share = square / (2 * square + total * square * gradients + self.EPSILON)
        weights = (gradients.relu() * share).sum(dim=(-2, -1), keepdim=True)
        return (weights * features).sum(dim=-3).relu()


class HiResCam(GradientCam):
    """`Σ_c g_c ⊙ F_c`, signed (Draelos & Carin 2020).

    Before average pooling and a linear layer, a map sums to the class's logit less its bias. Where a layer norm over
    channels follows the stage, as between ConvNeXt's stages, the channels cancel at every place: the map is then zeros
    and not rounding errors. The package grad-cam shows the positive part only.
    """

    info = ExplainerInfo(
        "HiResCAM", "Draelos & Carin 2020, arXiv 2011.08891", True,
        "Above 0 where the stage's features raise the target class's score, below 0 where they lower it.", signed=True)
    # Share of the channels' magnitude below which a sum is rounding and a norm's epsilon; true maps have 1e-2 and more.
    CANCELLED = 1e-4

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        terms = gradients * features
        total = terms.sum(dim=-3)
        most = terms.abs_().sum(dim=-3).amax(dim=(-2, -1), keepdim=True)
        # Not <=, so that nan stays nan.
        return total.masked_fill(total.abs().amax(dim=(-2, -1), keepdim=True) < self.CANCELLED * most, 0.0)


class LayerCam(GradientCam):
    """`ReLU(Σ_c ReLU(g_c) ⊙ F_c)`, with a weight per place, so that early stages stay readable (Jiang 2021)."""

    info = ExplainerInfo(
        "LayerCAM", "Jiang 2021, IEEE TIP 30 (no arXiv), doi 10.1109/TIP.2021.3089943", True,
        "Bright at single positions whose features support the target class; made for fine, early stages.")

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        return (gradients.relu() * features).sum(dim=-3).relu()


class XGradCam(GradientCam):
    """`ReLU(Σ_c α_c·F_c)`, α_c the gradient averaged with the features as weights (Fu 2020)."""

    info = ExplainerInfo(
        "XGrad-CAM", "Fu 2020, arXiv 2008.02312", True,
        "As Grad-CAM, with each channel's gradient read where the channel responds.", early_stages=False)
    # The package's constant: a channel without response has no weight.
    EPSILON = 1e-7

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        total = features.sum(dim=(-2, -1), keepdim=True)
        weights = (gradients * features / (total + self.EPSILON)).sum(dim=(-2, -1), keepdim=True)
        return (weights * features).sum(dim=-3).relu()
