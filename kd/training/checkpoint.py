"""Resume state of an unfinished run: models, optimiser, gradient scaler and position."""

import io
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric.plugins.precision import Precision
from torch import nn

from kd.errors import UsageError
from kd.store.files import write_bytes
from kd.store.runs import Run


@dataclass
class TrainState:
    """Position of a run in its training. `seconds` counts training time over all attempts."""

    epoch: int = 0
    best_epoch: int = -1
    best_score: tuple[float, float] = (float("-inf"), float("-inf"))
    seconds: float = 0.0


def save(run: Run, model: nn.Module, method: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision,
         progress: TrainState) -> None:
    """Write the resume state in one step. It holds plain tensors and numbers only. precision: Fabric's plugin, which
    in 16-mixed owns the gradient scaler."""
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "method": method.state_dict(), "optimizer": optimizer.state_dict(),
                "scaler": precision.state_dict(), "progress": vars(progress)}, buffer)
    write_bytes(run.resume_state, buffer.getvalue())


def restore(run: Run, model: nn.Module, method: nn.Module, optimizer: torch.optim.Optimizer,
            precision: Precision) -> TrainState:
    """Load the last saved state into all of these; returns a new TrainState when there is none.

    The model and the method must be on their device already: an optimizer loads its state to the device of its
    parameters at that moment, and a fused one cannot step with the two on different devices.
    """
    if not run.resume_state.exists():
        return TrainState()
    try:
        state: dict[str, Any] = torch.load(run.resume_state, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        method.load_state_dict(state.get("method", {}))
        optimizer.load_state_dict(state["optimizer"])
        if state.get("scaler"):  # not in 32-true and bf16-mixed, nor in states of versions that did not save it
            precision.load_state_dict(state["scaler"])
    except Exception as error:
        raise UsageError(f"The saved state of {run.id} cannot be read ({type(error).__name__}). "
                         f"Delete the run and start it again.") from error
    return TrainState(**state["progress"])
