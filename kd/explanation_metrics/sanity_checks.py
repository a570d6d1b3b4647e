"""Model-randomisation sanity check: maps must change when weights are randomised (Adebayo 2018, arXiv 1810.03292).

The head is randomised first, then stage after stage from the last to the first, always on a private copy.
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.datasets.tensors import to_tensor
from kd.explainers import DEFAULT_STAGE, Explainer, Maps, StageChoice
from kd.explainers.gradient_cams import GradientCam
from kd.metrics.bootstrap import bootstrap_ci, derangements
from kd.metrics.map_similarity import spearman
from kd.models.base import Classifier
from kd.progress import ShareCallback, no_share

BATCH = 8


def layer_groups(model: Classifier, size: int) -> list[tuple[str, tuple[str, ...]]]:
    """(name, its parameters) of the head, of every stage from the last to the first, and of the mask network in front
    of a masked student.

    A stage's parameters are those that its features depend on, found by differentiating a private copy, less those of
    earlier stages; so no table of layers is kept. size: side of an image that the model takes.
    """
    trial = copy.deepcopy(model).requires_grad_(True)
    names = [name for name, _ in trial.named_parameters()]
    with torch.enable_grad():
        images = torch.zeros(1, 3, size, size, device=model.mean.device)
        stages = trial.forward_stages(trial.prepare(images))
        needs = [(stage.name, _needs(names, list(trial.parameters()), features.sum()))
                 for stage, features in zip(model.stages, stages, strict=True)]
        if model.has_mask:
            mask = trial.mask_map(images).sum()
            needs.insert(0, ("explainer", _needs(names, list(trial.parameters()), mask)))
    found, known = [], set[str]()
    for place, needed in needs:
        found.append((place, tuple(name for name in names if name in needed - known)))
        known |= needed
    return [("head", tuple(name for name in names if name not in known)), *reversed(found)]


def _needs(names: list[str], parameters: list[nn.Parameter], total: torch.Tensor) -> set[str]:
    gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
    return {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}


def randomise_weights(model: Classifier, names: Sequence[str], seed: int = 0) -> Classifier:
    """A frozen copy in which each of these parameters has its own values in random order.

    So every layer keeps the mean and spread of its weights, and activations neither vanish nor explode.
    """
    copied = copy.deepcopy(model)
    parameters = dict(copied.named_parameters())
    for number, (name, _) in enumerate(model.named_parameters()):
        if name in names:
            values = parameters[name].data
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            order = torch.randperm(values.numel(), generator=generator).to(values.device)
            values.copy_(values.flatten()[order].view_as(values))
    return copied.requires_grad_(False).eval()


def explain_batchwise(explainer: Explainer, model: Classifier, images: NDArray[np.uint8], targets: NDArray[np.int64],
                      stage: StageChoice = DEFAULT_STAGE,
                      progress: ShareCallback = no_share) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Maps [N, h, w] in 0..1 of the evidence for the classes in many images [N, S, S, 3], and which are blank [N].

    The negative part of a signed map, evidence against the class, is removed. progress: may raise to stop.
    """
    def explained(part: slice) -> Maps:
        batch, device = to_tensor(images[part], model.mean.device), model.mean.device
        return explainer(model, batch, torch.from_numpy(targets[part]).to(device), stage,
                         partial(_within, progress, part.start / len(images), len(batch) / len(images)))

    return _positive(explained, len(images))


def explain_features(explainer: GradientCam, model: Classifier, features: Tensor, targets: NDArray[np.int64],
                     progress: ShareCallback = no_share) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The same from the last stage's features [N, C, h, w], where the explainer needs no more."""
    def explained(part: slice) -> Maps:
        progress(part.start / len(features))
        return explainer.of_features(model, features[part], torch.from_numpy(targets[part]).to(features.device))

    return _positive(explained, len(features))


def _positive(explained: Callable[[slice], Maps], count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Positive parts of maps, scaled, and which are blank, a batch at a time."""
    scaled, blank = [], []
    for start in range(0, count, BATCH):
        found = explained(slice(start, start + BATCH))
        positive = Maps(found.values.relu()) if found.signed else found
        scaled.append(positive.scaled().cpu().numpy())
        blank.append(positive.blank.cpu().numpy())
    return np.concatenate(scaled), np.concatenate(blank)


def _within(progress: ShareCallback, start: float, length: float, share: float) -> None:
    progress(start + length * share)


def randomisation_test(explainer: Explainer, model: Classifier, images: NDArray[np.uint8], targets: NDArray[np.int64],
                       stage: StageChoice = DEFAULT_STAGE, seed: int = 0,
                       progress: ShareCallback = no_share) -> dict[str, Any]:
    """Rank correlation of maps with those of the trained model, while more and more of its layers are randomised.

    chance: the baseline, between the trained model's own maps of different images. rows: the last group randomised, the
    correlation with a bootstrap interval, and the number of images left out because a map is blank. progress: may raise
    to stop.
    """
    steps = layer_groups(model, images.shape[1])
    length = 1 / (len(steps) + 1)
    original, empty = explain_batchwise(explainer, model, images, targets, stage,
                                        partial(_within, progress, 0.0, length))
    rows: list[dict[str, Any]] = []
    gone: tuple[str, ...] = ()
    for number, (name, parameters) in enumerate(steps, start=1):
        gone += parameters
        maps, blank = explain_batchwise(explainer, randomise_weights(model, gone, seed), images, targets, stage,
                                        partial(_within, progress, number * length, length))
        left = ~(empty | blank)
        rows.append({"down_to": name, "parameters": len(gone), "blank": int((~left).sum()),
                     "spearman": bootstrap_ci(spearman(original[left], maps[left]), span=(-1.0, 1.0)).to_json()})
    pairs = derangements(int((~empty).sum()), 5, seed)
    kept = original[~empty]
    others = [spearman(kept, kept[pair]) for pair in pairs]
    return {"images": len(images), "chance": bootstrap_ci(np.concatenate(others) if others else np.empty(0)).mean,
            "rows": rows}
