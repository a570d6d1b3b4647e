"""What one model asks of this machine in a training step: timed and weighed on noise, untrained."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from kd.models import build_untrained, cost, has_depthwise
from kd.observation import MaskSampling, Observation
from kd.spec import RunSpec
from kd.timing import measure
from kd.torch_utils import compute
from kd.torch_utils.rng import isolated_rng
from kd.training.augmentation import augment

WORK = 2e9  # FLOPs of the forward pass that is timed: a fraction of a second on one core


class StepConfig(NamedTuple):
    """How a model takes part in a training step. drawing: how it draws masks, and asks: the pictures among what it
    draws that its teacher is shown. frozen: the model is such a teacher, differentiated no further than its pictures.
    """

    drawing: MaskSampling | None = None
    asks: tuple[str, ...] = ()
    frozen: bool = False


ALONE = StepConfig()


@dataclass(frozen=True)
class StepBenchmark:
    """One model on this machine: seconds an image of a training step and of a forward pass, bytes an image kept for
    the backward pass, parameters, how many images were timed, and how many pictures an image it asks its teacher
    about in a step."""

    step: float
    forward: float
    activation_bytes: int
    parameters: int
    images: int
    asked: float = 0.0


@lru_cache(maxsize=64)
def benchmark_step(spec: RunSpec, classes: int, use: StepConfig = ALONE) -> StepBenchmark:
    """Time a training step and a forward pass of an untrained model on noise, and weigh what the backward keeps.

    In a thread of its own, on as many computing threads as a run trains on; the caller's stay as they are.
    """
    with ThreadPoolExecutor(1) as worker:
        return worker.submit(_trial, spec, classes, use).result()


def _trial(spec: RunSpec, classes: int, use: StepConfig) -> StepBenchmark:
    compute.set_threads(compute.threads(spec.threads))
    price = cost.cost(spec, classes)
    # Even, as training batches are: of an odd one a picture is asked about twice.
    images = 2 * int(np.clip(WORK / max(price.flops, 1) / 2, 1, 16))
    device = torch.device(compute.device_here(spec.device))
    # In eval mode and from a generator of its own: random numbers drawn here would be missing in a run that trains.
    model = build_untrained(spec, classes).to(device).eval().requires_grad_(not use.frozen)
    batch = torch.rand(images, 3, spec.image_size, spec.image_size, generator=torch.Generator()).to(device)
    index = np.arange(images)
    # As `kd.training.teacher.cached_teacher.CachedTeacher.query` computes.
    mixed = spec.precision != "32-true" and not (use.frozen and has_depthwise(spec))

    def step() -> Observation:
        seen = augment(batch, index, index, True) if spec.views and not use.frozen else batch.requires_grad_(use.frozen)
        with _autocast(spec, device, mixed), isolated_rng(0, device) if use.drawing else nullcontext():
            found: Observation = model(seen, **({"drawing": use.drawing} if use.drawing else {}))
        _loss(found, use.asks).backward()
        _settle(device)
        return found

    def forward() -> None:
        with torch.no_grad(), _autocast(spec, device, mixed):
            model(batch)
        _settle(device)

    kept, asked = _kept(model, step, use.asks)
    took = measure(step, repeats=2, warmup=0).low
    return StepBenchmark(
        took / images,
        measure(forward, repeats=2).low / images,
        kept // images,
        price.parameters,
        images,
        asked / images,
    )


def _loss(seen: Observation, asks: tuple[str, ...]) -> torch.Tensor:
    """Something that all which a step computes takes part in."""
    answers = seen.logits if seen.mask_samples is None else torch.cat([seen.logits, seen.mask_samples.answers])
    loss = F.cross_entropy(answers.float(), torch.zeros(len(answers), dtype=torch.long, device=answers.device))
    for pictures in _asked(seen, asks):
        loss = loss + pictures.float().mean()
    return loss


def _asked(seen: Observation, asks: tuple[str, ...]) -> list[torch.Tensor]:
    return [getattr(seen.mask_samples, name) for name in asks]


def _kept(model: torch.nn.Module, step: Callable[[], Observation], asks: tuple[str, ...]) -> tuple[int, int]:
    """Bytes of the tensors that one step keeps for its backward pass, each storage once, weights aside; and how many
    pictures it has drawn to be asked about."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found: dict[int, int] = {}
    alive = []  # a freed storage's address is given out again

    def weigh(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
        seen = step()
    return sum(found.values()), sum(len(pictures) for pictures in _asked(seen, asks))


def _autocast(spec: RunSpec, device: torch.device, mixed: bool) -> torch.autocast:
    """As training computes. spec: a bare one."""
    kind = torch.float16 if spec.precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=mixed)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
