"""What the first epoch of a run tells: the loss that it starts with, and what a teacher's soft targets say."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd.evaluation.run_warnings import START, TARGETS, WEIGHTS
from kd.methods import TeacherOutputs
from kd.store.runs import Run
from kd.training.batches import Batch
from kd.training.step import TrainStep


def observed(source: Iterator[tuple[Batch, TeacherOutputs]], epoch: int, step: TrainStep, classes: int,
             log: Callable[..., None]) -> Iterator[tuple[Batch, TeacherOutputs]]:
    """The batches of an epoch. Of a run's first, logs what the first step's forward pass came to, and what the soft
    targets were, where there are any; nothing is computed twice.

    START: `loss`, the first batch's mean cross-entropy with its labels in nats, and `chance`, ln K, that of guessing.
    TARGETS: as `TargetStatistics.report`.
    """
    if epoch:
        yield from source
        return
    targets = TargetStatistics(step.method.soften)
    with _first_logits(step.model) as seen:
        batch, outputs = next(source)
        targets.add(batch, outputs)
        yield batch, outputs
    loss = _cross_entropy(seen[0], batch.target)
    loss = _reduced(step, torch.tensor(loss, device=batch.target.device), "mean").item()
    if math.isfinite(loss):  # a loss that is not ends the run, with its reason
        log(START, loss=loss, chance=math.log(classes))
    for batch, outputs in source:
        targets.add(batch, outputs)
        yield batch, outputs
    if targets.sums is not None:
        log(TARGETS, **targets.report(_reduced(step, targets.sums, "sum"), getattr(step.method, "temperature", 1.0),
                                      classes))


def _reduced(step: TrainStep, value: Tensor, how: str) -> Tensor:
    """The mean or sum of a tensor over all processes."""
    found: Any = step.fabric.all_reduce(value, reduce_op=how)
    return torch.as_tensor(found)


def recorded(run: Run) -> dict[str, Any]:
    """What `observed` logged, as entries of the run's summary."""
    events = ((name, run.last_event(name)) for name in (START, TARGETS, WEIGHTS))
    return {name: {key: value for key, value in event.items() if key not in ("event", "time")}
            for name, event in events if event}


@contextmanager
def _first_logits(model: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, the logits of the model's forward passes are collected."""
    found: list[Tensor] = []
    handle = model.register_forward_hook(lambda _module, _args, output: found.append(output.logits.detach().float()))
    try:
        yield found
    finally:
        handle.remove()


def _cross_entropy(logits: Tensor, target: Tensor) -> float:
    """Mean over the images that have a label, or shares of several; nan where none has."""
    known = target >= 0 if target.ndim == 1 else target.any(dim=1)
    return float(F.cross_entropy(logits[known], target[known]))


class TargetStatistics:
    """Sums over the soft targets of an epoch. soften: from a teacher's logits to the probabilities [B, K] that a
    student imitates. sums: entropy of these, entropy at temperature 1, targets that name the label, images with a
    label, and images; None before a batch with logits."""

    def __init__(self, soften: Callable[[Tensor], Tensor]) -> None:
        self.soften = soften
        self.sums: Tensor | None = None

    def add(self, batch: Batch, outputs: TeacherOutputs) -> None:
        """Count a batch, where its teacher outputs have logits."""
        if "logits" not in outputs:
            return
        logits, target = outputs["logits"].float(), batch.target
        if target.ndim == 2:  # a mixed image has two labels, and no target names both
            target = torch.full_like(target[:, 0], -1)
        known = target >= 0
        right = (logits.argmax(dim=1) == target)[known]
        found = torch.stack([_entropy(self.soften(logits)).sum(), _entropy(logits.softmax(dim=1)).sum(),
                             right.sum(), known.sum(), torch.tensor(len(target), device=target.device)]).double()
        self.sums = found if self.sums is None else self.sums + found

    @staticmethod
    def report(sums: Tensor, temperature: float, classes: int) -> dict[str, Any]:
        """temperature: T. entropy, entropy_t1: mean entropy of the targets, in nats, as the method softens them and at
        T = 1. share, share_t1: these as shares of ln K, the entropy of a target that says nothing. right: share of the
        training views whose label the targets name; None where there are no labels. images: their number."""
        soft, plain, right, known, images = sums.tolist()
        most = math.log(classes) * images
        return {"temperature": temperature, "entropy": soft / images, "entropy_t1": plain / images,
                "share": soft / most, "share_t1": plain / most, "right": right / known if known else None,
                "images": round(images)}


def _entropy(probabilities: Tensor) -> Tensor:
    """Entropy of each row of probabilities [B, K], in nats [B]."""
    return torch.special.entr(probabilities).sum(dim=1)
