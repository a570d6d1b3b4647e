"""One optimiser step of a student: forward pass, loss terms, backward pass, update."""

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import nn

from kd.methods import Method, TeacherOutputs
from kd.torch_utils import distributed_ops
from kd.training.batches import Batch


class TrainStep(NamedTuple):
    """A model's training step on one batch."""

    fabric: Fabric
    model: nn.Module
    method: Any  # a Method, or Fabric's wrapper of one
    optimizer: torch.optim.Optimizer

    def __call__(self, batch: Batch, outputs: TeacherOutputs, progress: float) -> dict[str, torch.Tensor]:
        """Update the parameters and return the loss terms {name: scalar}. progress: as in `Method.forward`."""
        terms = self.loss_terms(batch, outputs, progress)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(torch.stack(list(terms.values())).sum())
        self.optimizer.step()
        return {name: value.detach() for name, value in terms.items()}

    def loss_terms(self, batch: Batch, outputs: TeacherOutputs, progress: float) -> dict[str, torch.Tensor]:
        """The weighted loss terms {name: scalar}, with gradient."""
        target = batch.target
        with distributed_ops.batch_norm(self.fabric.world_size):
            # Fabric converts all outputs to float32; for stages that the method does not use, that would take an
            # eighth of a step at 224 px.
            given = batch.images if batch.features is None else batch.features
            seen = self.model(given, **self.method.forward_kwargs(progress))
            if self.method.compares_batch and self.fabric.world_size > 1:
                seen, outputs, target = distributed_ops.all_gather_batch(seen, outputs, target)
            terms: dict[str, torch.Tensor] = self.method(seen, outputs, target, progress)
        return terms

    def parameters(self) -> list[nn.Parameter]:
        """Parameters of student and method that are trained."""
        return [parameter for part in (self.model, self.method) for parameter in part.parameters()
                if parameter.requires_grad]


def build_step(fabric: Fabric, model: nn.Module, method: Method,
               optimizer: torch.optim.Optimizer, example: tuple[Batch, TeacherOutputs] | None) -> TrainStep:
    """A step on the device and, with several processes, with gradients that are means over all of them.

    model: a classifier, or its later stages where batches have features.
    example: a batch with its teacher outputs, needed by several processes only.
    """
    if fabric.world_size > 1:
        # A 1 × 1 kernel has the same memory layout either way; its differing strides cost nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        assert example is not None, "several processes need an example"
        _freeze_unused(TrainStep(fabric, model.to(fabric.device), method, optimizer), *example)
    trainable = any(parameter.requires_grad for parameter in method.parameters())
    wrapped, optimizer = fabric.setup(model, optimizer)
    return TrainStep(fabric, wrapped, fabric.setup_module(method) if trainable and fabric.world_size > 1 else method,
                     optimizer)


def _freeze_unused(step: TrainStep, batch: Batch, outputs: TeacherOutputs) -> None:
    """Freeze parameters that never get a gradient, as in some layers of truncated networks: the processes would wait
    for their gradients for ever."""
    step.model.eval()  # leaves the running statistics as they are
    step.method.eval()
    loss = torch.stack(list(step.loss_terms(batch, outputs, 1.0).values())).sum()
    found = torch.autograd.grad(loss, step.parameters(), allow_unused=True)
    for parameter, gradient in zip(step.parameters(), found, strict=True):
        parameter.requires_grad_(gradient is not None)


def decay_groups(model: nn.Module, weight_decay: float, slow: Iterable[nn.Parameter] = (),
                 share: float = 1.0) -> list[dict[str, Any]]:
    """Parameter groups of AdamW: weight decay for kernels and matrices, none for biases and batch-norm gains.

    slow: parameters whose learning rate is this share of the others'; their groups have it under `share`.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    slower = {id(p) for p in slow} if share != 1 else set()
    groups = _decaying([p for p in parameters if id(p) not in slower], weight_decay)
    if slower:
        groups += [{**group, "share": share} for group in _decaying([p for p in parameters if id(p) in slower],
                                                                    weight_decay)]
    return groups


def _decaying(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    return [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
