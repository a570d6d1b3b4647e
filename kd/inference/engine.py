"""Base class of the engines, and torch itself as one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kd.inference.record import TORCH, EngineRecord
from kd.observation import Observation, select_output

FLOAT32, BF16 = "32-true", "bf16-mixed"  # precisions, as Lightning Fabric names them
POOLED = "pooled"


@dataclass(frozen=True)
class Asked:
    """What a frozen model is asked for. outputs: as `Answers` names them. batch, size: images [batch, 3, size, size] in
    a pass. images: number in all, as far as it is known beforehand. precision: that torch would be asked in, as
    Lightning Fabric names it. whole: whether a pass always has a whole batch, so that an image's answer does not depend
    on how many are asked about."""

    outputs: tuple[str, ...]
    batch: int
    size: int
    images: int
    precision: str = FLOAT32
    whole: bool = True


class Answers(nn.Module):
    """Outputs of a model by their names, as a tuple, for RGB images [B, 3, S, S] in 0..1.

    Names are those of `kd.observation.select_output`, and pooled:I, the mean [B, C] of stage I over its places. For one
    stage alone, nothing behind it is computed.
    """

    def __init__(self, model: Any, outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.outputs = model, tuple(outputs)
        kind, _, number = self.outputs[0].partition(":")
        self.stage = int(number) if kind == "stage" and len(self.outputs) == 1 else None
        self.needs_stages = any(":" in name for name in self.outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.stage is not None:
            return (self.model.features_at(images, self.stage),)
        seen: Observation = self.model(images, cams="cams" in self.outputs, stages=self.needs_stages)
        return tuple(_output(seen, name) for name in self.outputs)


def _output(seen: Observation, name: str) -> Tensor:
    kind, _, number = name.partition(":")
    return seen.stages[int(number)].mean(dim=(2, 3)) if kind == POOLED else select_output(seen, name)


class Engine(ABC):
    """A frozen model in eval mode that answers batches without gradient. record: which engine it is."""

    record: EngineRecord

    @abstractmethod
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Float32 outputs [B, …] by name for RGB images [B, 3, S, S] in 0..1."""


class TorchEngine(Engine):
    """The model itself. precision: as Lightning Fabric names it; a mixed one is autocast."""

    def __init__(self, model: nn.Module, outputs: Sequence[str], precision: str = FLOAT32, reason: str = "") -> None:
        self.answers, self.precision = Answers(model, outputs), precision
        self.record = torch_record(precision, reason)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad(), _autocast(self.precision, images.device.type):
            found = self.answers(images)
        return {name: values.float() for name, values in zip(self.answers.outputs, found, strict=True)}


def torch_record(precision: str, reason: str = "") -> EngineRecord:
    """Record of torch in a precision."""
    return EngineRecord(TORCH, torch.__version__, precision, reason)


def _autocast(precision: str, device: str) -> AbstractContextManager[Any]:
    kind = {BF16: torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    return torch.autocast(device, kind) if kind else nullcontext()


def error(found: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> float:
    """Largest error of the outputs, each's relative to its largest absolute value; nan where one is not finite."""
    return max((float((found[name] - values).abs().amax() / values.abs().amax().clamp_min(1e-30))
                for name, values in exact.items()), key=lambda value: float("inf") if value != value else value)


def spread_error(found: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> float:
    """Largest error of the outputs, each's as root mean square relative to that of its values."""
    return max((float((found[name] - values).norm() / values.norm().clamp_min(1e-30))
                for name, values in exact.items()), key=lambda value: float("inf") if value != value else value)
