"""Class activation maps computed by the package pytorch-grad-cam (`grad-cam` on PyPI).

Its methods that are not implemented here, as explainers, and `raw_map`, the package's own map of any method, with which
`kd.inspection.cam_check` compares ours. The package is not thread-safe, sets modes, overwrites `.grad` and keeps one
ablation layer for all its callers, so it gets a private copy of the model, under one lock.

Left out: FullGrad (reads the biases of plain Conv2d and BatchNorm2d only, so none of the 52 normalisations of timm's
MobileNetV2, which are BatchNormAct2d), FEM (weighs features where its paper weighs their binary maps), SegEigenCAM (for
segmentation), GradCAMElementWise (LayerCAM, wherever features are at least 0), RandomCAM.
"""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.errors import UsageError
from kd.explainers.base import SEED, Explainer, ExplainerInfo, columns, for_every_target, like
from kd.models.base import Classifier
from kd.progress import ShareCallback
from kd.torch_utils.rng import numpy_seeded

MOST_CELLS = 64 * 64  # of a grid whose cells are compared pairwise: more would take a GB
_lock = threading.Lock()

Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Raw:
    """The package's map [h, w] on the stage's own grid, before ReLU, scaling and resizing, with the features and
    gradients [C, h, w] that it was computed from (gradients: None where it uses none)."""

    map: Values
    features: Values
    gradients: Values | None


class _Watched(nn.Module):
    """A classifier in the form that the package needs: logits [1, K], with a stage's features passing through the
    module `seen`, so that its hooks work for every stage of every classifier.
    """

    def __init__(self, model: Classifier, stage: int) -> None:
        super().__init__()
        self.model, self.stage, self.seen = model, stage, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        features = self.model(images).stages[self.stage]
        if torch.is_grad_enabled() and not images.requires_grad:
            features = features.detach().requires_grad_()  # earlier layers need not be differentiated
        else:
            features = features.clone()  # the package detaches them in place, which no view of tokens allows
        # A copy, because later layers may work in place, and the package keeps the features; a product, because its
        # gradient is no view either.
        return self.model.forward_from(images, self.stage, self.seen(features).mul(1))


@contextmanager
def private_copy(model: Classifier) -> Iterator[Classifier]:
    """A frozen copy of a model, which the package may change; one at a time in the whole program."""
    with _lock:
        yield copy.deepcopy(model).requires_grad_(False)


def raw_map(kind: str, copied: Classifier, image: Tensor, target: int, stage: int) -> Raw:
    """Map by the package's class `kind` of one image [3, S, S] in 0..1, for a class and a stage, both from 0.

    copied: from `private_copy`. Raises IndexError for a class that the model lacks.
    """
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    watched = _Watched(copied, stage)
    # Its second derivatives need a graph also where the first do not depend on the features, as in a linear head.
    watched.requires_grad_(kind == "ShapleyCAM")
    with torch.enable_grad(), _quiet(), numpy_seeded(SEED):
        cam = getattr(pytorch_grad_cam, kind)(watched, [watched.seen])
        inner = getattr(cam, "base_cam", cam)
        recorded = _record(inner)
        wanted = {"target_idx": target} if kind == "FinerCAM" else {"targets": [ClassifierOutputTarget(target)]}
        try:
            cam(image[None].detach().clone(), **{"targets": None, **wanted})
        finally:
            inner.activations_and_grads.release()
    [(found, features, gradients)] = recorded
    return Raw(_one(found), _one(features), None if gradients is None else _one(gradients))


def _record(cam: Any) -> list[tuple[Any, Any, Any]]:
    """A list to which (map, features, gradients) are added whenever this object of the package makes a map."""
    recorded: list[tuple[Any, Any, Any]] = []
    make = cam.get_cam_image

    def get_cam_image(images: Any, layer: Any, targets: Any, features: Any, gradients: Any, smooth: bool) -> Any:
        found = make(images, layer, targets, features, gradients, smooth)
        recorded.append((found, features, gradients))
        return found

    cam.get_cam_image = get_cam_image
    return recorded


def _one(batch: Any) -> Values:
    """The only element of a batch."""
    values = batch.detach().cpu().numpy() if isinstance(batch, Tensor) else batch
    return np.asarray(values[0], np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """A block without the package's progress bars. Under the lock, so for this caller only."""
    from pytorch_grad_cam import ablation_cam, score_cam

    silent = SimpleNamespace(tqdm=lambda steps: steps)
    with mock.patch.object(ablation_cam, "tqdm", silent), mock.patch.object(score_cam, "tqdm", silent):
        yield


class PackageCam(Explainer):
    """Base of explainers whose maps the package computes, one image and class at a time.

    A subclass names the package's class and, where its maps need more than a ReLU, defines `finish`.
    """

    kind: ClassVar[str]
    pairwise: ClassVar[bool] = False  # whether it compares every cell of a grid with every other

    def finish(self, raw: Raw) -> Values:
        """The map as it is displayed, at least 0."""
        return np.maximum(raw.map, 0)

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, stages: Sequence[int],
              progress: ShareCallback) -> list[Tensor]:
        wanted = columns(targets) if self.info.class_specific else columns(targets)[:, :1]
        questions = [(stage, image, int(target)) for stage in stages
                     for image, row in zip(images, wanted, strict=True) for target in row]
        maps = []
        with private_copy(model) as copied:
            if self.pairwise:
                self._check_grids(copied, images, stages)
            for number, (stage, image, target) in enumerate(questions, start=1):
                maps.append(self._map(copied, image, target, stage))
                progress(number / len(questions))
        by_stage = [torch.stack(maps[start:start + wanted.numel()]).unflatten(0, wanted.shape)
                    for start in range(0, len(maps), wanted.numel())]
        return [like(targets, one) if self.info.class_specific else for_every_target(one[:, 0], targets)
                for one in by_stage]

    def _map(self, copied: Classifier, image: Tensor, target: int, stage: int) -> Tensor:
        return torch.from_numpy(self.finish(raw_map(self.kind, copied, image, target, stage))).to(image.device)

    def _check_grids(self, copied: Classifier, images: Tensor, stages: Sequence[int]) -> None:
        with torch.no_grad():
            features = copied(images[:1]).stages
        for stage in stages:
            height, width = features[stage].shape[-2:]
            if height * width > MOST_CELLS:
                raise UsageError(f"{self.info.title} compares every cell of a map with every other: the {height} × "
                                 f"{width} of stage {stage} would take gigabytes. Take a later stage, or eigen-cam.")


class ShapleyCam(PackageCam):
    """`ReLU(Σ_c w_c·F_c)`, w_c the mean over the grid of `g − H·F / 2`: the gradient less half the product of the
    logit's second derivatives with the features (Cai 2025), a second-order estimate of Shapley values.

    A network of ReLUs with a linear head is linear around every image: H is 0 there, and the map is Grad-CAM's.
    """

    info = ExplainerInfo(
        "Shapley-CAM", "Cai 2025, arXiv 2501.06261", True,
        "As Grad-CAM, corrected for the curvature of the score; the same for a network of ReLUs, which has none.",
        early_stages=False)
    kind = "ShapleyCAM"


class FinerCam(PackageCam):
    """Grad-CAM of the class's logit less those of the (up to) three classes that score most like it, each weighted by
    its probability (Zhang 2025)."""

    info = ExplainerInfo(
        "Finer-CAM", "Zhang 2025, arXiv 2501.11309", True,
        "Bright where the stage's features tell the target class from the classes that score most like it.",
        early_stages=False)
    kind = "FinerCAM"


class _Projection(PackageCam):
    """Base of explainers that project on a first principal direction, which has no sign: the side with the greatest
    magnitude counts as positive, as in EigenCAM, and the other is removed."""

    pairwise = True

    def finish(self, raw: Raw) -> Values:
        source = raw.features if raw.gradients is None else raw.features * raw.gradients
        centred = source - source.mean(axis=(1, 2), keepdims=True)
        if np.abs(centred).max() <= 1e-6 * np.abs(source).max():  # rounding around a constant has a direction, too
            return np.zeros_like(raw.map)
        return np.maximum(raw.map if raw.map.max() >= -raw.map.min() else -raw.map, 0)


class EigenGradCam(_Projection):
    """Features times their gradients, centred, projected on their first principal direction over channels: EigenCAM
    (Muhammad 2020) made class-specific, as the package has it."""

    info = ExplainerInfo(
        "Eigen-Grad-CAM", "after Muhammad 2020, arXiv 2008.00299", True,
        "Bright at the principal component of what supports the target class; cleaner than a plain sum.",
        "seconds")
    kind = "EigenGradCAM"


class KpcaCam(_Projection):
    """A stage's features, centred, projected on the first direction of kernel PCA with a sigmoid kernel over channels
    (Karmani 2024): EigenCAM without its linearity."""

    info = ExplainerInfo(
        "KPCA-CAM", "Karmani 2024, arXiv 2410.00267", False,
        "Bright where the stage's most varying pattern is, straight or bent: what stands out, whatever the class.",
        "seconds")
    kind = "KPCA_CAM"
