"""Benchmark of a model's training step on this machine: time and memory, on noise, untrained."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from kd.models import build_untrained, cost
from kd.models.factory import unwrap
from kd.models.frozen import LaterStages, freeze
from kd.observation import MaskSampling, Observation
from kd.spec import RunSpec
from kd.timing import measure
from kd.torch_utils import compute
from kd.torch_utils.memory_format import channels_last
from kd.torch_utils.rng import isolated_rng
from kd.training.augmentation import augment

WORK = 2e9  # FLOPs of the forward pass that is timed: a fraction of a second on one core


@dataclass(frozen=True)
class StepBenchmark:
    """Benchmark of one model: seconds per image of a training step and of a forward pass, bytes per image saved for the
    backward pass, parameters, number of timed images, and seconds per image of frozen stages whose features are cached
    (`features`), which are in neither of the former."""

    step: float
    forward: float
    activation_bytes: int
    parameters: int
    images: int
    features: float = 0.0


@lru_cache(maxsize=64)
def benchmark_step(spec: RunSpec, classes: int, frozen: bool = False) -> StepBenchmark:
    """Time of a training step and a forward pass of an untrained model on noise, and bytes saved for the backward pass.

    frozen: whether a step is given the features of the model's frozen stages. Measured in a separate thread with the
    number of computing threads that a run uses; the caller's is unchanged.
    """
    # A thread that has not asked yet takes over the number that another one sets.
    torch.get_num_threads()
    with ThreadPoolExecutor(1) as worker:
        return worker.submit(_trial, spec, classes, frozen).result()


def _trial(spec: RunSpec, classes: int, frozen: bool) -> StepBenchmark:
    compute.set_threads(compute.threads(spec.threads))
    price = cost.cost(spec, classes)
    # With features, most of these FLOPs are not computed in a step.
    images = int(np.clip(WORK / max(price.flops, 1), 8 if frozen else 2, 32))
    device = torch.device(compute.device_here(spec.device))
    # In eval mode and with a separate generator: random numbers drawn here must not change those of a training run.
    whole = channels_last(build_untrained(spec, classes)).to(device).eval()  # as in training: times differ by layout
    batch = torch.rand(images, 3, spec.image_size, spec.image_size, generator=torch.Generator()).to(
        device, memory_format=torch.channels_last)
    index = np.arange(images)
    mixed = spec.precision != "32-true"
    drawing = {"drawing": MaskSampling(1.0)} if spec.mask_area else {}
    if spec.frozen_stages:
        freeze(unwrap(whole), spec.frozen_stages, spec.image_size)
    later = LaterStages.of(whole, spec.frozen_stages - 1, spec.image_size) if frozen else None
    model, given, augmented = later or whole, batch, bool(spec.views) and later is None
    features_seconds = 0.0
    if later is not None:
        def features() -> torch.Tensor:
            with torch.no_grad(), _autocast(spec, device, mixed):
                found = whole.features_at(batch, later.stage)
            _settle(device)
            return found

        given, features_seconds = features().float(), measure(features, repeats=2, warmup=0).low / images

    def step() -> Observation:
        seen = augment(batch, index, index, True) if augmented else given
        if augmented and spec.mixup:
            seen = torch.lerp(augment(batch, index, index, True), seen, 0.5)
        with _autocast(spec, device, mixed), isolated_rng(0, device) if drawing else nullcontext():
            found: Observation = model(seen, **drawing)
        _loss(found).backward()
        _settle(device)
        return found

    def forward() -> None:
        with torch.no_grad(), _autocast(spec, device, mixed):
            model(given)
        _settle(device)

    saved_bytes = _saved_for_backward(model, step)
    seconds = measure(step, repeats=2, warmup=0).low
    return StepBenchmark(seconds / images, measure(forward, repeats=2).low / images, saved_bytes // images,
                         price.parameters, images, features_seconds)


def _loss(seen: Observation) -> torch.Tensor:
    """A loss that depends on everything that a step computes."""
    logits = seen.logits if seen.mask_samples is None else torch.cat([seen.logits, seen.mask_samples.answers])
    loss = F.cross_entropy(logits.float(), torch.zeros(len(logits), dtype=torch.long, device=logits.device))
    return loss if seen.mask_samples is None else loss + seen.mask_samples.scores.mean()


def _saved_for_backward(model: torch.nn.Module, step: Callable[[], Observation]) -> int:
    """Bytes of the tensors that one step saves for its backward pass, each storage once, without weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found: dict[int, int] = {}
    alive = []  # the address of a freed storage is used again

    def weigh(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
        step()
    return sum(found.values())


def _autocast(spec: RunSpec, device: torch.device, mixed: bool) -> torch.autocast:
    """Autocast context as in training. spec: with its precision resolved."""
    kind = torch.float16 if spec.precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=mixed)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
